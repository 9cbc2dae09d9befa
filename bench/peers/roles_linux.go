package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/sock"
)

const (
	serviceName = "peers"
	version     = "1.0.0"
)

var quiet = slog.New(slog.DiscardHandler)

// role is what a child process of this program does until it is told to end.
func role(ctx context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "broker":
		b, err := broker.Listen(broker.Options{Socket: args[1], HelloRate: 1 << 30, Logger: quiet})
		if err != nil {
			return err
		}
		return b.Serve(ctx)
	case len(args) == 3 && args[0] == "backend":
		return serveBackend(ctx, args[1], args[2])
	case len(args) == 1 && args[0] == "stdio":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case len(args) == 1 && args[0] == "listen":
		ln, err := net.FileListener(os.NewFile(3, "socket")) // sd_listen_fds(3)
		if err != nil {
			return err
		}
		return serveUntilTold(ctx, ln)
	case len(args) == 2 && args[0] == "listen":
		ln, err := net.Listen("unix", args[1])
		if err != nil {
			return err
		}
		return serveUntilTold(ctx, ln)
	case len(args) == 2 && args[0] == "fdpass":
		return serveDescriptors(ctx, args[1])
	}
	return fmt.Errorf("no such role: %q", args)
}

// serveBackend echoes: what the broker hands over, and what is dialled.
func serveBackend(ctx context.Context, socket, pipe string) error {
	ln, err := backend.Listen(ctx, backend.Options{
		Service: serviceName, Version: version, Broker: socket, Pipe: pipe, Logger: quiet, Backlog: 1024,
	})
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	return serve(ln, echo)
}

// quitByte, alone in a message, ends a program that serves until it is told.
const quitByte = '!'

// serveUntilTold echoes until ctx or a client ends it.
func serveUntilTold(ctx context.Context, ln net.Listener) error {
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	return serve(ln, func(c net.Conn) {
		if echoUntil(c, func(b []byte) bool { return len(b) == 1 && b[0] == quitByte }) {
			_ = ln.Close()
		}
	})
}

// serve has each connection of ln served until ln ends.
func serve(ln net.Listener, each func(net.Conn)) error {
	for {
		c, err := ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		go each(c)
	}
}

func echo(c net.Conn) { echoUntil(c, func([]byte) bool { return false }) }

// echoUntil echoes until c ends, or what is read is the last; then it is true.
func echoUntil(c net.Conn, last func([]byte) bool) bool {
	defer func() { _ = c.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return false
		}
		if last(buf[:n]) {
			return true
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return false
		}
	}
}

// httpRequest makes Apache pass its client on; httpAnswer is the first answer then.
const (
	httpRequest = "GET / HTTP/1.1\r\nHost: peers\r\n\r\n"
	httpAnswer  = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
)

// serveDescriptors takes connections that Apache passes on over the socket, answers
// the request that Apache has read already, and echoes from then on.
func serveDescriptors(ctx context.Context, path string) error {
	ln, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	if err := os.Chmod(path, 0o777); err != nil { // Apache's workers may be another user
		return err
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			return nil
		}
		go func() {
			defer func() { _ = c.Close() }()
			if passed, err := receive(c.(*net.UnixConn)); err == nil {
				if _, err := io.WriteString(passed, httpAnswer); err == nil {
					echo(passed)
				}
			}
		}()
	}
}

// receive returns the connection that arrives on c.
func receive(c *net.UnixConn) (net.Conn, error) {
	m, err := sock.Receive(c, make([]byte, 1))
	if err != nil {
		return nil, err
	}
	defer m.FDs.Close()
	if m.FDs.Len() != 1 {
		return nil, fmt.Errorf("%d descriptors arrived", m.FDs.Len())
	}
	f, err := m.FDs.Take(0).File("passed")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return net.FileConn(f)
}
