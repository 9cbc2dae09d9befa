package windows

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
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

// pointRead is the application's own: the request has been read and told, and not answered.
const pointRead failpoint.Point = "application.read"

// thawed is closed when the process, frozen at its point, is to go on: at the first line of its
// standard input.
var thawed = make(chan struct{})

// arm has the process meet its fault the first time it passes the point.
func (r role) arm() {
	if r.Point == "" {
		return
	}
	var met atomic.Bool
	failpoint.Set(func(p failpoint.Point) {
		if p != r.Point || !met.CompareAndSwap(false, true) {
			return
		}
		fmt.Println("at", p)
		if r.Freeze {
			<-thawed
			return
		}
		os.Exit(9)
	})
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
	r.arm()
	fmt.Println("registered")
	told, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(told, func() {
		_ = ln.Close()
		fmt.Println("draining")
	})
	go func() {
		in := bufio.NewReader(os.Stdin)
		if _, err := in.ReadString('\n'); err == nil {
			close(thawed)
		}
		_, _ = io.Copy(io.Discard, in)
		_ = ln.Close()
	}()
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
			failpoint.Hit(pointRead)
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
