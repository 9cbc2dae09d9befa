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

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func() error{"broker": beBroker, "backend": beBackend})
}

// role is what a helper process is told on its command line's behalf.
type role struct {
	Socket      string
	Pipe        string
	Definitions string
	AckDeadline time.Duration
	Journal     string          // where backends write down what they ran
	Point       failpoint.Point // empty: no fault
	Signal      syscall.Signal  // what the process does to itself at Point
	Child       bool            // the backend starts a child of its own at each request
	Inline      bool            // the backend answers first requests inline
}

// pointRead is the application's own failpoint: the request is read and written
// down, the answer is not out.
const pointRead failpoint.Point = "application.read"

const roleVariable = "USHER_FAULTS_ROLE"

func readRole() (r role, err error) {
	return r, json.Unmarshal([]byte(os.Getenv(roleVariable)), &r)
}

// arm makes the process signal itself the first time it passes the point. After
// SIGSTOP it goes on there once SIGCONT has come.
func (r role) arm() {
	if r.Point == "" {
		return
	}
	var done atomic.Bool
	failpoint.Set(func(p failpoint.Point) {
		if p == r.Point && done.CompareAndSwap(false, true) {
			_ = raise(r.Signal)
		}
	})
}

// raise sends this process a signal whose effect has come when the call returns:
// it goes to the calling thread, which meets it on its way out of the kernel. A
// signal to the whole process may be taken by another thread while this one runs
// on, past the failpoint.
func raise(sig syscall.Signal) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return unix.Tgkill(os.Getpid(), unix.Gettid(), sig)
}

func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

// beBroker serves until its standard input ends, and drains on SIGTERM.
func beBroker() error {
	r, err := readRole()
	if err != nil {
		return err
	}
	b, err := broker.Listen(broker.Options{
		Socket: r.Socket, DefinitionDir: r.Definitions, AckDeadline: r.AckDeadline, Logger: logger(),
	})
	if err != nil {
		return err
	}
	r.arm()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go report(stop)
	fmt.Println("ready")
	return b.Serve(ctx)
}

// report answers each line on standard input with the process' goroutines, and
// ends the process' work when the input ends.
func report(stop func()) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Println(runtime.NumGoroutine())
	}
	stop()
}

// beBackend runs a line protocol: "ID\n" is written down and answered with
// "ID done\n".
func beBackend() error {
	r, err := readRole()
	if err != nil {
		return err
	}
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
	go report(stop)
	fmt.Println("ready")
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

func (r role) serveLines(c net.Conn, journal io.Writer) {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := io.WriteString(journal, line); err != nil {
			return
		}
		failpoint.Hit(pointRead)
		if r.Child {
			child := exec.Command("sleep", "30")
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
