package v1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
	"github.com/seed-7265657e/usher/test/windows/fixture"
)

// role is what a process that a test has started is told.
type role struct {
	Point  failpoint.Point
	Freeze bool // at Point, else the process is ended there; once

	// Endpoint is where a backend takes connections by the v1 exchange, and Pipe the pipe of one
	// that does not register.
	Pipe, Endpoint string
	// Shut keeps others from giving it handles, and Offers is what it does with all that it is
	// offered: "reject"; "close" or "read", when the broker has missed the answer; or adopt.
	Shut   bool
	Offers string
}

func TestMain(m *testing.M) {
	fixture.Main(m, map[string]func() error{"backend": beBackend, "server": beServer})
}

// beBackend answers lines until its standard input ends, and says which ones it has run.
func beBackend() error {
	var r role
	if err := fixture.Role(&r); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), fixture.Patience)
	defer cancel()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	opts := backend.Options{Service: fixture.Service, Version: fixture.Version, Logger: log}
	if err := r.v1(&opts); err != nil {
		return err
	}
	ln, err := backend.Listen(ctx, opts)
	if err != nil {
		return err
	}
	fixture.Arm(r.Point, r.Freeze)
	if r.Pipe != "" {
		fmt.Println("listening")
	} else {
		if err := ln.WaitRegistered(ctx); err != nil {
			return err
		}
		fmt.Println("registered")
	}
	fixture.Obey(func() { _ = ln.Close() })
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go fixture.ServeLines(c.(*backend.Conn), func(line string) {
			fmt.Println("ran", line)
			failpoint.Hit(fixture.PointRead)
		})
	}
}

// v1 has a backend take connections by the v1 exchange, or be known to a broker by its pipes
// alone.
func (r role) v1(opts *backend.Options) error {
	if r.Pipe != "" {
		opts.Pipe, opts.Broker = r.Pipe, r.Pipe+"-no-broker"
	}
	if r.Shut {
		if err := shut(); err != nil {
			return err
		}
	}
	if r.Offers == "" {
		opts.HandoffEndpoint = r.Endpoint
		return nil
	}
	b, err := endpoint.BindHandoff(r.Endpoint)
	if err != nil {
		return err
	}
	from, err := b.Accepting()
	if err == nil {
		go r.answerAll(from)
	}
	return err
}

// answerAll takes one offer after the other.
func (r role) answerAll(from *sock.Listener) {
	for {
		c, err := accept(from)
		if err == nil {
			err = r.answer(c)
			_ = c.Close()
		}
		if err != nil {
			fmt.Println("not answered:", err)
		}
	}
}

// accept waits for a client.
func accept(from *sock.Listener) (*sock.Conn, error) {
	for {
		c, err := from.Accept()
		if !errors.Is(err, syscall.EAGAIN) {
			return c, err
		}
		event, _ := sock.Borrow(from)
		_, err = windows.WaitForSingleObject(windows.Handle(event), windows.INFINITE)
		sock.Return(from)
		if err != nil {
			return nil, err
		}
	}
}

func (r role) answer(c *sock.Conn) error {
	f, _, err := frame.Read(c, frame.MaxHelloBody)
	if err != nil {
		return err
	}
	offer, err := frame.ParseHandoffOffer(f)
	if err != nil {
		return err
	}
	fds, err := sock.TakeHandle(c, offer.HandleValue)
	if err != nil {
		return err
	}
	if r.Offers == "reject" {
		fds.Close()
		_, err = frame.Write(c, frame.HandoffAck(&wire.HandoffAck{Token: offer.Token, CorrelationId: offer.CorrelationId, ErrorDetail: "not today"}))
		return err
	}
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		return fmt.Errorf("the broker goes on: %d, %w", n, err)
	}
	conn := fds.TakeConn(0)
	if r.Offers == "read" {
		var got []byte
		got, err = io.ReadAll(conn)
		fmt.Printf("read %q\n", got)
	}
	err = errors.Join(err, conn.Close())
	fmt.Println("closed")
	return err
}

// shut lets others of this user ask who this process is, and wait for its end, and no more.
func shut() error {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return err
	}
	const ask = windows.PROCESS_QUERY_LIMITED_INFORMATION | windows.SYNCHRONIZE
	list, err := windows.SecurityDescriptorFromString(fmt.Sprintf("D:P(A;;%#x;;;%s)", ask, user.User.Sid))
	if err != nil {
		return err
	}
	dacl, _, err := list.DACL()
	if err != nil {
		return err
	}
	return windows.SetSecurityInfo(windows.CurrentProcess(), windows.SE_KERNEL_OBJECT,
		windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, dacl, nil)
}

// beServer accepts one connection and says what it is called here.
func beServer() error {
	var r role
	if err := fixture.Role(&r); err != nil {
		return err
	}
	from, err := sock.Listen(r.Pipe, true)
	if err != nil {
		return err
	}
	fmt.Println("listens at", r.Pipe)
	c, err := accept(from)
	if err != nil {
		return err
	}
	fmt.Println("serves", sock.Number(c))
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
