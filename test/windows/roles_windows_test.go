package windows

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/cli"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
)

const (
	service = "lines"
	version = "1.0.0"
	// roleVariable has the role of a process that a test has started.
	roleVariable = "USHER_TEST_ROLE"
)

// role is what such a process is told.
type role struct {
	Arguments []string // of usher
	Point     failpoint.Point
	Freeze    bool   // at Point, else the process is ended there; once
	Request   string // of the client
	Protocol  string // of the backend: "http", "grpc", or lines
}

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func() error{"usher": beUsher, "backend": beBackend, "client": beClient})
}

func ownRole() (r role, err error) {
	return r, json.Unmarshal([]byte(os.Getenv(roleVariable)), &r)
}

func beUsher() error {
	r, err := ownRole()
	if err != nil {
		return err
	}
	os.Args = append(os.Args[:1], r.Arguments...)
	os.Exit(cli.Main())
	return nil
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
// ends and its connections have. It says which lines it has run.
func beBackend() error {
	r, err := ownRole()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	ln, err := backend.Listen(ctx, backend.Options{Service: service, Version: version, Logger: log})
	if err != nil {
		return err
	}
	if err := ln.WaitRegistered(ctx); err != nil {
		return err
	}
	r.arm()
	fmt.Println("registered")
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
	return ln.Drain(ctx)
}

func serveLines(ln net.Listener) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go serve(c.(*backend.Conn))
	}
}

func serve(c *backend.Conn) {
	defer func() { _ = c.Close() }()
	for in := bufio.NewScanner(c); in.Scan(); {
		fmt.Println("ran", in.Text())
		failpoint.Hit(pointRead)
		if _, err := fmt.Fprintf(c, "%s %d %v\n", in.Text(), os.Getpid(), c.HandedOver()); err != nil {
			return
		}
	}
}

// beClient asks once, and says what it was answered.
func beClient() error {
	r, err := ownRole()
	if err != nil {
		return err
	}
	answer, conn, err := ask(client.Options{}, r.Request, true)
	if err != nil {
		return err
	}
	fmt.Println(conn.Route(), answer)
	return conn.Close()
}

// ask sends a request and returns the answer; early along with Hello.
func ask(opts client.Options, request string, early bool) (answer string, c *client.Conn, err error) {
	opts.Service, opts.Version = service, version
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if early {
		c, err = client.DialWith(ctx, opts, []byte(request+"\n"))
	} else if c, err = client.Dial(ctx, opts); err == nil {
		_, err = io.WriteString(c, request+"\n")
	}
	if err != nil {
		return "", nil, err
	}
	answer, err = line(c)
	return answer, c, err
}

func line(c net.Conn) (string, error) {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	answer, err := bufio.NewReaderSize(c, 256).ReadString('\n')
	return strings.TrimSpace(answer), err
}
