//go:build unix

package test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
)

// backendMain is a program that serves: it says who it is, how the connection
// came, and what it read.
//
//	backend SERVICE VERSION
func backendMain() {
	service, version := os.Args[1], os.Args[2]
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ln, err := backend.Listen(ctx, backend.Options{
		Service: service, Version: version,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		fail(err)
	}
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	fmt.Println("serving", service, version)
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			_ = ln.Drain(ctx) // let go by the broker: what is open ends by itself
			return
		}
		if err != nil {
			fail(err)
		}
		go answer(c.(*backend.Conn), service+"@"+version)
	}
}

func answer(c *backend.Conn, who string) {
	defer func() { _ = c.Close() }()
	text, err := io.ReadAll(c)
	if err != nil {
		return
	}
	how := "dialled"
	if c.HandedOver() {
		how = "handed over"
	}
	if string(text) == pidQuestion {
		text = []byte("you are " + strconv.Itoa(c.Client().PID))
	}
	_, _ = fmt.Fprintf(c, "%s %s: %s\n", who, how, strings.TrimSpace(string(text)))
}

// pidQuestion is answered with the client's pid, as the kernel says it.
const pidQuestion = "who am I?"

// talkMain is a program that `usher run` starts: it asks the backend who it is, over the
// descriptor that USHER_FD names, and says whether that is so. Its exit code is its
// argument.
func talkMain() {
	n, err := strconv.Atoi(os.Getenv("USHER_FD"))
	if err != nil {
		fail(err)
	}
	c, err := net.FileConn(os.NewFile(uintptr(n), "connection"))
	if err != nil {
		fail(err)
	}
	if _, err := io.WriteString(c, pidQuestion); err != nil {
		fail(err)
	}
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		fail(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		fail(err)
	}
	fmt.Printf("%s (%v)\n", strings.TrimSpace(string(answer)),
		strings.HasSuffix(string(answer), fmt.Sprintf("you are %d\n", os.Getpid())))
	code, _ := strconv.Atoi(os.Args[1])
	os.Exit(code)
}

// peerMain is a client of its own making: it writes bytes, given as Go writes
// them in a string, and says what the broker answers.
//
//	peer SOCKET BYTES           then ends its direction
//	peer -open SOCKET BYTES     keeps it open
func peerMain() {
	args := os.Args[1:]
	open := args[0] == "-open"
	if open {
		args = args[1:]
	}
	bytes, err := strconv.Unquote(`"` + args[1] + `"`)
	if err != nil {
		fail(err)
	}
	c, err := net.Dial("unix", args[0])
	if err != nil {
		fail(err)
	}
	if _, err := io.WriteString(c, bytes); err != nil {
		fail(err)
	}
	if !open {
		if err := c.(*net.UnixConn).CloseWrite(); err != nil {
			fail(err)
		}
	}
	f, _, err := frame.Read(c, frame.MaxBody)
	if err != nil {
		fmt.Println("no answer:", err)
		return
	}
	_, err = hello.ParseReply(f)
	fmt.Println("answer:", err)
	if rest, err := io.ReadAll(c); err != nil || len(rest) != 0 {
		fmt.Printf("then %q, %v\n", rest, err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
