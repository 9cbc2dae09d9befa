package notes

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/seed-7265657e/usher/backend"
)

const (
	// Service is the name under which clients ask for notes.
	Service = "notes"
	// DefaultVersion is served unless Options say otherwise.
	DefaultVersion = "1.0.0"

	headerTimeout = 10 * time.Second
	shutdownGrace = 5 * time.Second
)

// Options say where notes are served. The zero value serves behind this user's
// broker.
type Options struct {
	Version string       // empty: DefaultVersion
	Broker  string       // the broker's socket; empty: the default one
	Pipe    string       // the own socket; empty: a fresh name
	Logger  *slog.Logger // nil: nothing is logged
	App     *App         // nil: a new one
}

// Run serves notes until ctx ends, and then finishes the requests under way. It
// returns nil after ctx, and otherwise why it could not serve.
func Run(ctx context.Context, opts Options) error {
	if opts.Version == "" {
		opts.Version = DefaultVersion
	}
	if opts.App == nil {
		opts.App = New()
	}
	ln, err := backend.Listen(ctx, backend.Options{
		Service: Service, Version: opts.Version,
		Broker: opts.Broker, Pipe: opts.Pipe, Logger: opts.Logger,
	})
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: opts.App, ConnContext: opts.App.countConn, ReadHeaderTimeout: headerTimeout}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	select {
	case err := <-served:
		return errors.Join(err, ln.Close())
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	err = srv.Shutdown(grace) // closes ln too
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return errors.Join(err, ln.Close())
}
