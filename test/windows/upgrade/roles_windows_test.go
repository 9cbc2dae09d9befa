package upgrade

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/cli"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/test/windows/fixture"
)

// role is what a broker, and each that takes its place, is told.
type role struct {
	Arguments []string // of usher
	Point     failpoint.Point
	Freeze    bool   // at Point, else the process is ended there; once
	Thaw      string // a file that ends it
	Tell      failpoint.Point
}

func TestMain(m *testing.M) {
	fixture.Main(m, map[string]func() error{"broker": beBroker, "backend": beBackend, "clients": beClients})
}

func beBroker() error {
	var r role
	if err := fixture.Role(&r); err != nil {
		return err
	}
	os.Stderr = os.Stdout // its log
	r.arm()
	os.Args = append(os.Args[:1], r.Arguments...)
	os.Exit(cli.Main())
	return nil
}

// arm has the process meet its fault the first time it passes the point.
func (r role) arm() {
	var met atomic.Bool
	failpoint.Set(func(p failpoint.Point) {
		if p == r.Tell {
			fmt.Println("at", p)
		}
		if p != r.Point || !met.CompareAndSwap(false, true) {
			return
		}
		fmt.Println("at", p, "pid", os.Getpid())
		if !r.Freeze {
			os.Exit(9)
		}
		for _, err := os.Stat(r.Thaw); err != nil; _, err = os.Stat(r.Thaw) {
			time.Sleep(time.Millisecond)
		}
	})
}

// beBackend serves lines until its standard input ends, and says which it has run.
func beBackend() error {
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
	fmt.Println("registered")
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = ln.Close()
	}()
	for {
		c, err := ln.Accept()
		if err != nil {
			return nil // it was closed
		}
		go fixture.ServeLines(c.(*backend.Conn), func(line string) { fmt.Println("ran", line) })
	}
}

// beClients asks again and again, each second time with early data, until its standard input
// ends, and says what came of each request.
func beClients() error {
	var over atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		over.Store(true)
	}()
	for n := 0; !over.Load(); n++ {
		request := fmt.Sprintf("%d-%d", os.Getpid(), n)
		answer, conn, err := fixture.Ask(fixture.Options(), request, n%2 == 0)
		if err != nil {
			fmt.Println("failed", request, err)
			continue
		}
		fmt.Println("answered", answer)
		_ = conn.Close()
	}
	return nil
}
