package windows

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/test/windows/fixture"
)

// role is what a process that a test has started is told.
type role struct {
	Point    failpoint.Point
	Freeze   bool   // at Point, else the process is ended there; once
	Request  string // of the client
	Protocol string // of the backend: "http", "grpc", or lines
}

func TestMain(m *testing.M) {
	beProgram()
	fixture.Main(m, map[string]func() error{"backend": beBackend, "client": beClient, "keys": beKeys})
}

// beBackend answers each line with itself, its pid and how it came, until its standard input
// ends, or a key of its console ends it, and its connections have ended. It says which lines it
// has run.
func beBackend() error {
	var r role
	if err := fixture.Role(&r); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), fixture.Patience)
	defer cancel()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	ln, err := backend.Listen(ctx, backend.Options{Service: fixture.Service, Version: fixture.Version, Logger: log})
	if err != nil {
		return err
	}
	if err := ln.WaitRegistered(ctx); err != nil {
		return err
	}
	fixture.Arm(r.Point, r.Freeze)
	fmt.Println("registered")
	told, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(told, func() {
		_ = ln.Close()
		fmt.Println("draining")
	})
	fixture.Obey(func() { _ = ln.Close() })
	switch r.Protocol {
	case "http":
		err = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintln(w, os.Getpid(), r.URL.Path)
		}))
	case "grpc":
		server := grpc.NewServer()
		healthpb.RegisterHealthServer(server, health.NewServer())
		err = server.Serve(ln)
	default:
		err = serveLines(ln)
	}
	if !errors.Is(err, net.ErrClosed) {
		return err
	}
	return ln.Drain(context.Background())
}

func serveLines(ln net.Listener) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go fixture.ServeLines(c.(*backend.Conn), func(line string) {
			fmt.Println("ran", line)
			failpoint.Hit(fixture.PointRead)
		})
	}
}

// beClient asks once, and says what it was answered.
func beClient() error {
	var r role
	if err := fixture.Role(&r); err != nil {
		return err
	}
	answer, conn, err := fixture.Ask(fixture.Options(), r.Request, true)
	if err != nil {
		return err
	}
	fmt.Println(conn.Route(), answer)
	return conn.Close()
}

// registered is a backend, once it is.
func registered(t *testing.T, r role) *fixture.Process {
	t.Helper()
	p := fixture.Start(t, "backend", r)
	p.Until("registered")
	return p
}
