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
	_, _ = fmt.Fprintf(c, "%s %s: %s\n", who, how, strings.TrimSpace(string(text)))
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
