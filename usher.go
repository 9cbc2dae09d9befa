// Package usher makes one binary client, daemon and broker: a tool's author writes what
// the daemon serves and what a call of the tool asks, and ships one file. Nothing is
// installed, configured or started by hand.
//
//	var tool = usher.Tool{Name: "mytool", Version: "1.2.0", Serve: serve}
//
//	func main() {
//		tool.Main()                 // in a process that was started as broker or daemon, it does not return
//		conn, err := tool.Dial(ctx) // starts broker and daemon if need be
//		…
//	}
//
// The first call starts a broker of the tool's own as the same executable, and that
// broker a daemon of the caller's own build: never is a call answered by another build
// than its own, whatever lies on the disk by now. A daemon goes when nobody has needed it
// for a while, and then the broker.
package usher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/names"
)

// Tool is a program with a background daemon. Name and Serve must be set, and are the same
// in each of its processes. A Tool is not changed once it is in use.
type Tool struct {
	// Name is the tool's name, [a-z0-9-], at most 36 bytes under /run/user/1000. It names
	// the broker's socket and the logs.
	Name string
	// Version is MAJOR.MINOR.PATCH with an optional -prerelease; "0.0.0" when empty. Two
	// builds of one version have two daemons all the same.
	Version string
	// Serve serves the connections of ln until ctx ends or ln is closed, in the daemon.
	// The daemon counts as ready at the first Accept. It ends when Serve returns, and an
	// error of Serve is told to those who wait for the daemon to start.
	Serve func(ctx context.Context, ln net.Listener) error

	// Key separates daemons of one build: what one of them serves, such as the root of a
	// workspace, or the version of a toolchain.
	Key string
	// Dir is the daemon's working directory, an absolute path; "/" when empty. It separates
	// daemons as Key does, by where it leads: two links to one directory are one.
	Dir string
	// EnvKey are the names of environment variables that the daemon gets with the caller's
	// values, and that separate daemons. Of all others it has those of a login, never what
	// the first caller happened to have set.
	EnvKey []string

	// IdleTimeout is how long a daemon without a connection lives; 10 minutes when 0. The
	// broker goes as long after its last daemon, and after 10 s at the latest.
	IdleTimeout time.Duration
	// Busy, when set, says in the daemon whether it is at work although it has no
	// connection: it builds an index, or writes back what it has cached. A daemon that
	// says so when IdleTimeout is over stays, and is asked again after another. One that is
	// stopped, or in whose place another is started, first does its work: it is asked until
	// it says no, and ends then. A signal gives it 10 s. See backend.Options.Busy.
	Busy func() bool
	// StartTimeout is how long the daemon may take to its first Accept; 10 s when 0.
	StartTimeout time.Duration
}

const (
	defaultIdle    = 10 * time.Minute
	defaultStart   = 10 * time.Second
	defaultVersion = "0.0.0"
)

// complete fills what is not set, and judges the rest.
func (t *Tool) complete() (Tool, error) {
	c := *t
	if c.Version == "" {
		c.Version = defaultVersion
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = defaultIdle
	}
	if c.StartTimeout <= 0 {
		c.StartTimeout = defaultStart
	}
	if err := names.ServiceName(c.Name); err != nil {
		return c, fmt.Errorf("usher.Tool.Name: %w", err)
	}
	switch err := names.Version(c.Version); {
	case err != nil:
		return c, fmt.Errorf("usher.Tool.Version: %w", err)
	case c.Serve == nil:
		return c, errors.New("usher.Tool.Serve is not set")
	case c.Dir != "" && !filepath.IsAbs(c.Dir):
		return c, fmt.Errorf("usher.Tool.Dir: %q is no absolute path", c.Dir)
	}
	if dir, err := filepath.EvalSymlinks(c.Dir); err == nil && c.Dir != "" { // else the daemon's start says what is wrong
		c.Dir = dir
	}
	return c, nil
}

// environment are the variables of EnvKey that the caller has, in a fixed order.
func (t *Tool) environment() (env []string) {
	for _, name := range t.EnvKey {
		if value, set := os.LookupEnv(name); set {
			env = append(env, name+"="+value)
		}
	}
	slices.Sort(env)
	return slices.Compact(env)
}

// socket is where the tool's broker serves: that of the private broker of its name (spec
// 03 §1).
func (t *Tool) socket() (string, error) {
	instance, err := endpoint.Private(t.Name)
	if err != nil {
		return "", err
	}
	return instance.SocketPath()
}

// ensureState is stateDir, made where it is missing, and judged: before the broker is started.
func (t *Tool) ensureState() (string, error) {
	dir, err := t.stateDir()
	if err == nil {
		err = endpoint.EnsureState(dir)
	}
	return dir, err
}

// stateDir is where the logs of the tool's broker and daemons are.
func (t *Tool) stateDir() (string, error) {
	state, err := endpoint.StateDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(state, t.Name), nil
}

// brokerLog is the log of the tool's broker.
func brokerLog(stateDir string) string { return filepath.Join(stateDir, "broker.log") }
