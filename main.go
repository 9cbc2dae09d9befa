package usher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/eventlog"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/logfile"
	"github.com/seed-7265657e/usher/internal/sock"
)

// Main is the first thing that main does: in a process that was started as the tool's
// broker or daemon it serves, and ends the process; in any other it returns at once. In a
// test of the tool, TestMain calls it. Where one executable has several tools, main calls
// Main of each.
func (t *Tool) Main() {
	role, name := os.Getenv(launch.RoleVariable), os.Getenv(launch.ToolVariable)
	if role == "" || name != "" && name != t.Name {
		return
	}
	for _, v := range []string{launch.RoleVariable, launch.ToolVariable} {
		_ = os.Unsetenv(v) // no child is to have it
	}
	tool, err := t.complete()
	if err == nil {
		err = checkSelf()
	}
	if err == nil {
		switch role {
		case launch.RoleBroker:
			err = tool.runBroker()
		case launch.RoleDaemon:
			err = tool.runDaemon()
		default:
			err = fmt.Errorf("%s is %q: unset it", launch.RoleVariable, role)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// readyWord is what a broker that is started tells its starter when it serves. Anything else
// is why it does not.
const readyWord = "ready\n"

// runBroker is the tool's broker: private to the tool, and gone when there is nothing to
// do for it. It is started by a call of the tool, or by an older broker whose place it
// takes.
func (t *Tool) runBroker() error {
	before, err := broker.TakePredecessor()
	if err != nil {
		return err
	}
	if before != nil {
		_ = launch.CloseStray()
		return t.serveBroker(before, func(string) {})
	}
	starter, err := takeStarter()
	if err != nil {
		return err
	}
	defer starter.Close()
	_ = launch.CloseStray() // else somebody's pipe stays open for as long as this process lives
	return t.serveBroker(nil, func(word string) {
		_, _ = starter.WriteString(word) // who has gone meanwhile has started it for others
		_ = starter.Close()
	})
}

// takeStarter is the pipe to who has started this process, which no child of it gets.
func takeStarter() (*os.File, error) {
	number := os.Getenv(launch.StarterVariable)
	_ = os.Unsetenv(launch.StarterVariable)
	fd, err := sock.Inherited(number)
	if err != nil {
		return nil, fmt.Errorf("%s is %q: %w", launch.StarterVariable, number, err)
	}
	return fd.File("starter")
}

// serveBroker says readyWord when it serves, or why it does not.
func (t *Tool) serveBroker(before *broker.Predecessor, say func(string)) error {
	launch.SetName(t.Name)
	b, log, err := t.listenBroker(before)
	if errors.Is(err, errServed) {
		say(readyWord)
		return nil
	}
	if err != nil {
		say(err.Error())
		return err
	}
	defer log.close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, launch.Hangup)
	defer stop()
	say(readyWord)
	return b.Serve(ctx)
}

// logs are the broker's own, and what another that takes its place writes to until it has
// opened it itself.
type logs struct {
	own  *logfile.Writer
	next *os.File
}

func (l logs) close() error { return errors.Join(l.own.Close(), l.next.Close()) }

func openLogs(path string) (l logs, err error) {
	if l.own, err = logfile.NewWriter(path, logfile.Max); err != nil {
		return l, err
	}
	if l.next, err = logfile.Open(path); err != nil {
		return l, errors.Join(err, l.own.Close())
	}
	return l, nil
}

func (t *Tool) listenBroker(before *broker.Predecessor) (b *broker.Broker, log logs, err error) {
	state, err := t.stateDir()
	if err != nil {
		return nil, log, err
	}
	socket, err := t.socket()
	if err != nil {
		return nil, log, err
	}
	path, err := os.Executable()
	if err != nil {
		return nil, log, err
	}
	instance := "private:" + t.Name
	events, err := eventlog.Path(instance)
	if err != nil {
		return nil, log, err
	}
	if log, err = openLogs(brokerLog(state)); err != nil {
		return nil, log, err
	}
	b, err = t.bindBroker(broker.Options{
		Socket:        socket,
		Instance:      instance,
		DefinitionDir: filepath.Join(state, "services"), // none: every client brings its own build
		OwnBuilds:     true,
		Version:       t.Version,
		LogDir:        state,
		Events:        events,
		IdleExit:      brokerIdle(),
		FirstHello:    firstHello,
		Predecessor:   before,
		Successor: broker.Successor{
			Path: path, Output: log.next,
			Env: t.brokerEnv(brokerIdle()),
		},
		Logger: slog.New(slog.NewJSONHandler(log.own, nil)),
	})
	if err != nil {
		return nil, log, errors.Join(err, log.close())
	}
	return b, log, nil
}

// brokerEnv is the environment of the tool's broker.
func (t *Tool) brokerEnv(idle time.Duration) []string {
	return launch.Baseline(launch.RoleVariable+"="+launch.RoleBroker, launch.ToolVariable+"="+t.Name, endpoint.IdleVariable+"="+idle.String())
}

const (
	// maxIdle is how long the broker stays behind its last daemon, at most.
	maxIdle = 10 * time.Second
	// firstHello is how long a broker stays for the call that has started it, which may be
	// slow on a busy machine, however short its idle time is.
	firstHello = 2 * time.Second
)

func brokerIdle() time.Duration {
	if d, err := time.ParseDuration(os.Getenv(endpoint.IdleVariable)); err == nil && d > 0 {
		return min(d, maxIdle)
	}
	return maxIdle
}

// succession bounds the wait for a broker that is about to end and still has the lock of
// the socket, and between is how often its name is tried.
const (
	succession = 15 * time.Second
	between    = 10 * time.Millisecond
)

// errServed says that another broker serves at the socket, and has not taken its name away:
// a call that had started it was ended before it could see that, and the next one started
// this.
var errServed = errors.New("another broker serves there")

func (t *Tool) bindBroker(opts broker.Options) (*broker.Broker, error) {
	for by := time.Now().Add(succession); ; time.Sleep(between) {
		b, err := broker.Listen(opts)
		var used *endpoint.InUseError
		if !errors.As(err, &used) || time.Now().After(by) {
			return b, err
		}
		if c, err := endpoint.DialNow(opts.Socket); err == nil {
			return nil, errors.Join(errServed, c.Close())
		}
	}
}
