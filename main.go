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
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/logfile"
)

// Main is the first thing that main does: in a process that was started as the tool's
// broker or daemon it serves, and ends the process; in any other it returns at once. In a
// test of the tool, TestMain calls it.
func (t *Tool) Main() {
	role := os.Getenv(launch.RoleVariable)
	if role == "" {
		return
	}
	_ = os.Unsetenv(launch.RoleVariable) // no child is to have it
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

// readyDescriptor is where a broker that is started tells its starter that it serves.
const readyDescriptor = 3

// readyWord is what it writes there. Anything else is why it does not.
const readyWord = "ready\n"

// runBroker is the tool's broker: private to the tool, and gone when there is nothing to
// do for it.
func (t *Tool) runBroker() error {
	starter := os.NewFile(readyDescriptor, "starter")
	defer starter.Close()
	_ = launch.CloseStray(readyDescriptor) // else somebody's pipe stays open for as long as this process lives
	launch.SetName(t.Name)
	b, log, err := t.listenBroker()
	if err != nil {
		_, _ = starter.WriteString(err.Error())
		return err
	}
	defer log.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	_, _ = starter.WriteString(readyWord) // who has gone meanwhile has started it for others
	_ = starter.Close()
	return b.Serve(ctx)
}

func (t *Tool) listenBroker() (*broker.Broker, *logfile.Writer, error) {
	state, err := t.stateDir()
	if err != nil {
		return nil, nil, err
	}
	socket, err := t.socket()
	if err != nil {
		return nil, nil, err
	}
	log, err := logfile.NewWriter(brokerLog(state), logfile.Max)
	if err != nil {
		return nil, nil, err
	}
	b, err := t.bindBroker(broker.Options{
		Socket:        socket,
		Instance:      "private:" + t.Name,
		DefinitionDir: filepath.Join(state, "services"), // none: every client brings its own build
		OwnBuilds:     true,
		LogDir:        state,
		IdleExit:      brokerIdle(),
		Logger:        slog.New(slog.NewJSONHandler(log, nil)),
	})
	if err != nil {
		return nil, nil, errors.Join(err, log.Close())
	}
	return b, log, nil
}

// maxIdle is how long the broker stays behind its last daemon, at most.
const maxIdle = 10 * time.Second

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

func (t *Tool) bindBroker(opts broker.Options) (*broker.Broker, error) {
	for by := time.Now().Add(succession); ; time.Sleep(between) {
		b, err := broker.Listen(opts)
		var used *endpoint.InUseError
		if !errors.As(err, &used) || time.Now().After(by) {
			return b, err
		}
	}
}
