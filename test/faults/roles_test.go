//go:build linux

package faults

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/world"
)

// roleArgument begins the command line of this test binary as a process in a role.
const roleArgument = "role"

func TestMain(m *testing.M) {
	roles := map[string]func(role) error{"broker": beBroker, "backend": beBackend, "instance": beInstance}
	if len(os.Args) != 4 || os.Args[1] != roleArgument {
		code := m.Run()
		fmt.Print(&routes)
		os.Exit(code)
	}
	var r role
	err := json.Unmarshal([]byte(os.Args[3]), &r)
	if err == nil {
		err = roles[os.Args[2]](r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, os.Args[2]+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// role is what a process is told on its command line.
type role struct {
	Socket      string
	Pipe        string
	Definitions string
	AckDeadline time.Duration
	BackendWait time.Duration
	Journal     string          // where backends write down what they ran
	Point       failpoint.Point // empty: no fault
	Signal      syscall.Signal  // what the process does to itself at Point
	Child       bool            // the backend starts a child of its own at each request
	Inline      bool            // the backend answers first requests inline
	Successor   []string        // how the broker starts another in its place; "self" is this very process again
}

// pointRead is the application's own failpoint: the request is read and written
// down, the answer is not out.
const pointRead failpoint.Point = "application.read"

// arm makes the process signal itself the first time it passes the point. After
// SIGSTOP it goes on there once SIGCONT has come.
func (r role) arm() {
	if r.Point == "" {
		return
	}
	var done atomic.Bool
	failpoint.Set(func(p failpoint.Point) {
		if p == r.Point && done.CompareAndSwap(false, true) {
			_ = world.Raise(r.Signal)
		}
	})
}

func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

// beBroker serves until its standard input ends, and drains on SIGTERM.
func beBroker(r role) error {
	before, err := broker.TakePredecessor()
	if err != nil {
		return err
	}
	b, err := broker.Listen(broker.Options{
		Socket: r.Socket, DefinitionDir: r.Definitions, AckDeadline: r.AckDeadline, BackendWait: r.BackendWait, Logger: logger(),
		Predecessor: before, Successor: r.successor(),
	})
	if err != nil {
		return err
	}
	r.arm()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if before == nil { // else nobody is at the other end of standard input
		go converse(stop)
	}
	return b.Serve(ctx)
}

func (r role) successor() broker.Successor {
	switch {
	case len(r.Successor) == 0:
		return broker.Successor{}
	case r.Successor[0] == "self":
		return broker.Successor{Path: os.Args[0], Args: os.Args[1:], Env: os.Environ(), Output: os.Stderr}
	}
	return broker.Successor{Path: r.Successor[0], Args: r.Successor[1:], Env: os.Environ()}
}

// question asks a process for the number of its goroutines, or for what its heap has after a
// collection, in bytes.
type question struct{ Heap bool }

func (q question) answer() (int, error) {
	if !q.Heap {
		return runtime.NumGoroutine(), nil
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc), nil
}

// converse ends the process' work when nobody asks any more.
func converse(stop func()) {
	defer stop()
	_ = world.Converse(os.Stdin, os.Stdout, question.answer)
}

// beBackend runs a line protocol: "ID\n" is written down and answered with
// "ID done\n".
func beBackend(r role) error {
	journal, err := os.OpenFile(r.Journal, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	opts := backend.Options{Service: service, Version: version, Broker: r.Socket, Pipe: r.Pipe, Logger: logger()}
	if r.Inline {
		opts.Inline = func(answer, request []byte) ([]byte, bool) {
			_, err := journal.Write(request)
			return fmt.Appendf(answer, "%s done\n", bytes.TrimSuffix(request, []byte("\n"))), err == nil
		}
	}
	ln, err := backend.Listen(ctx, opts)
	if err != nil {
		return err
	}
	if err := ln.WaitRegistered(ctx); err != nil {
		return err
	}
	r.arm()
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	go converse(stop)
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go r.serveLines(c, journal)
	}
}

// beInstance is a backend that the broker starts: it ends when it is let go, after its last
// connection. "who" is answered with its pid.
func beInstance(r role) error {
	journal, err := os.OpenFile(r.Journal, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	ln, err := backend.Listen(context.Background(), backend.Options{Logger: logger()})
	if err != nil {
		return err
	}
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return ln.Drain(context.Background())
		}
		if err != nil {
			return err
		}
		go r.serveLines(c, journal)
	}
}

func (r role) serveLines(c net.Conn, journal io.Writer) {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if line == "who\n" {
			if _, err := fmt.Fprintln(c, os.Getpid()); err != nil {
				return
			}
			continue
		}
		if _, err := io.WriteString(journal, line); err != nil {
			return
		}
		failpoint.Hit(pointRead)
		if r.Child {
			child := exec.Command("sleep", "600")
			if child.Start() == nil {
				go func() { _ = child.Wait() }()
				_, _ = fmt.Fprintf(c, "%d\n", child.Process.Pid)
			}
			continue
		}
		if _, err := fmt.Fprintf(c, "%s done\n", line[:len(line)-1]); err != nil {
			return
		}
	}
}
