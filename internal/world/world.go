package world

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/wait"
	"github.com/seed-7265657e/usher/internal/wire"
)

// World is a private place for processes. Its methods are safe for concurrent use.
type World struct {
	// Dir is short enough for the names of sockets in it.
	Dir string
	// Env is the environment of every process. The user's own settings are not in it.
	Env []string
	// Keep leaves the directory behind.
	Keep bool

	sockets string          // begins the name of every socket
	group   group           // what holds its processes, and those that they start
	ctx     context.Context // kills every process when it ends
	cancel  context.CancelFunc

	mu  sync.Mutex
	all []*Process // in the order of their start
}

// New makes a World with a definition of the service, whose binary is program. Its
// processes are killed when ctx ends; the caller closes it.
func New(ctx context.Context, name, program string) (*World, error) {
	if err := supported(); err != nil {
		return nil, err
	}
	dir, err := privateDir()
	if err != nil {
		return nil, fmt.Errorf("private directory: %w", err)
	}
	w := &World{Dir: dir, sockets: socketsOf(dir)}
	w.ctx, w.cancel = context.WithCancel(ctx)
	w.Env = w.environment()
	if w.group, err = newGroup(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	_, err = service.Save(w.Definitions(), &wire.ServiceDefinition{
		ServiceName: name, BinaryPath: program, Isolation: wire.BrokerIsolation_SHARED_BROKER,
	}, service.TOML)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func privateDir() (string, error) {
	dir, err := shortDir(os.TempDir())
	if err == nil && len(dir) > maxDir { // a deep TMPDIR
		_ = os.Remove(dir)
		dir, err = shortDir("/tmp")
	}
	return dir, err
}

// shortDir is os.MkdirTemp with a short name.
func shortDir(parent string) (dir string, err error) {
	const tries, random = 1000, 3
	for range tries {
		dir = filepath.Join(parent, "u"+strings.ToLower(rand.Text()[:random]))
		if err = os.Mkdir(dir, 0o700); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return dir, err
}

// foreignEnvironment is this process' without the user's own settings.
func foreignEnvironment() (env []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "RUNNING_PROCESS_") && !strings.HasPrefix(v, "XDG_") {
			env = append(env, v)
		}
	}
	return append(env, "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE")) // else a process with the race detector ends a second late
}

func (w *World) environment() []string {
	env := foreignEnvironment()
	for _, name := range directoryVariables {
		env = append(env, name+"="+w.Dir)
	}
	return append(env,
		endpoint.ServiceDefVariable+"="+w.Definitions(),
		endpoint.SocketVariable+"="+w.Socket(),
	)
}

// Path is where a file of that name lies in the World.
func (w *World) Path(name string) string { return filepath.Join(w.Dir, name) }

// Definitions is the directory of the service definition.
func (w *World) Definitions() string { return w.Path("services") }

// Socket is where processes look for the broker, unless they are told otherwise.
func (w *World) Socket() string { return w.SocketNamed("broker") }

// SocketNamed is a socket's name that no other World has.
func (w *World) SocketNamed(name string) string { return w.sockets + name + socketSuffix }

// Executable is where an executable of that name lies in the World.
func (w *World) Executable(name string) string { return w.Path(name + executableSuffix) }

// PlaceExecutable puts a copy of executable at path, as an installer does: as another file,
// in the place of the one that is there, which may run. Two whose marks differ are two builds.
func PlaceExecutable(path, executable, mark string) error {
	content, err := os.ReadFile(executable)
	if err != nil {
		return err
	}
	fresh := path + ".new"
	if err := os.WriteFile(fresh, append(content, mark...), 0o700); err != nil {
		return err
	}
	return takePlace(fresh, path)
}

// Kill kills what still runs of the processes that the World started, and waits for its
// end. It starts no more.
func (w *World) Kill() {
	w.cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.all {
		<-p.ended
	}
}

// Close is Kill, and removes the directory.
func (w *World) Close() error {
	w.Kill()
	w.group.end()
	if w.Keep {
		return nil
	}
	return removeAll(w.Dir)
}

const (
	// stepTimeout bounds every wait for something that a process is about to do.
	stepTimeout  = 30 * time.Second
	pollInterval = 2 * time.Millisecond
)

// Until waits for a fact that no process announces. It fails with what when the
// fact does not come about in time, and at an error of the check.
func Until(ctx context.Context, what string, check func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	for {
		if holds, err := check(); holds || err != nil {
			return err
		}
		if !wait.For(ctx, pollInterval) {
			return fmt.Errorf("%s: not so: %w", what, ctx.Err())
		}
	}
}
