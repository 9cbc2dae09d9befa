package usher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/launch"
)

// stopGrace is how long connections may take to end once the daemon was told to stop, and
// Serve to return once there is nothing to serve.
const stopGrace = 10 * time.Second

// runDaemon is the tool's daemon: it serves until the broker lets it go, for want of
// clients, or a signal comes.
func (t *Tool) runDaemon() error {
	_ = launch.CloseStray(3, 4) // the channel and its page
	launch.SetName(t.Name)
	ln, err := backend.Listen(context.Background(), backend.Options{
		Service: t.Name, Version: t.Version, // and IdleTimeout as the client has said it
		Busy:   t.Busy,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	_ = os.Unsetenv(endpoint.SocketVariable) // the daemon's children have nothing to do with this broker
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, launch.Hangup)
	defer stop()
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	served := make(chan error, 1)
	go func() { served <- t.Serve(ctx, ln) }()
	select {
	case err = <-served:
	case <-ln.Done():
		err = drain(ctx, ln)
		select {
		case <-served: // whatever its Accept loop says to that
		case <-time.After(stopGrace):
			err = errors.Join(err, errors.New("ended without Serve, which had not returned in "+stopGrace.String()))
		}
		return err
	}
	select {
	case <-ln.Done(): // here as well
		return drain(ctx, ln)
	default:
	}
	if err != nil {
		return errors.Join(fmt.Errorf("serve: %w", err), ln.Close())
	}
	return drain(ctx, ln)
}

// drain waits for the connections that are open, and for what Busy tells of: as long as they like where clients still
// have them, and for stopGrace where the daemon was told to stop.
func drain(told context.Context, ln *backend.Listener) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	context.AfterFunc(told, func() { time.AfterFunc(stopGrace, cancel) })
	if err := ln.Drain(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return errors.New("ended with connections open, or at work: neither had come to its end in " + stopGrace.String())
}
