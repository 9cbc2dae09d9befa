package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestHTTPDialer: requests of an ordinary http.Client, whatever host they name.
func TestHTTPDialer(t *testing.T) {
	testutil.Leaks(t)
	socket, ln := real(t)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	transport := &http.Transport{DialContext: client.HTTP(options(socket))}
	c := http.Client{Transport: transport}
	for _, host := range []string{"notes", "example.com:8080"} {
		resp, err := c.Post("http://"+host+"/", "", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", host, resp.Status)
		}
	}
	transport.CloseIdleConnections()
	if err := server.Shutdown(bounded(t)); err != nil {
		t.Error(err)
	}
	<-served
}

// TestGRPCDialer: a gRPC server on the listener, a gRPC client on the dialer.
func TestGRPCDialer(t *testing.T) {
	testutil.Leaks(t)
	socket, ln := real(t)
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	conn, err := grpc.NewClient("passthrough:///notes",
		grpc.WithContextDialer(client.GRPC(options(socket))),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		reply, err := healthpb.NewHealthClient(conn).Check(bounded(t), &healthpb.HealthCheckRequest{})
		if err != nil || reply.Status != healthpb.HealthCheckResponse_SERVING {
			t.Fatal(reply, err)
		}
	}
	_ = conn.Close()
	server.GracefulStop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestDialersReturnNil: an interface that holds a nil *Conn would not be nil.
func TestDialersReturnNil(t *testing.T) {
	opts := options(testutil.SocketPath(t))
	a, errA := client.HTTP(opts)(context.Background(), "tcp", "x:80")
	b, errB := client.GRPC(opts)(context.Background(), "x")
	if a != nil || b != nil || !errors.Is(errA, client.ErrBrokerUnreachable) || !errors.Is(errB, client.ErrBrokerUnreachable) {
		t.Error(a, b, errA, errB)
	}
}

// TestDialersLearnAlone: what one Dialer knows about a broker changes nothing for
// another, nor for Dial, which always asks.
func TestDialersLearnAlone(t *testing.T) {
	testutil.Leaks(t)
	var refuse atomic.Bool
	d := usherThen(t, func(c *net.UnixConn, f *wire.Frame) {
		if refuse.Load() {
			write(c, hello.ReplyFrame(f, hello.BelowMinVersion().Reply()))
			return
		}
		handOver(c, f)
	})
	if c := dialAgain(t, d); c.Route() != "" {
		t.Errorf("the Dialer that knows asked: %s", c.Route())
	}
	if c := mustDial(t, d.Options); c.Route() != client.HandedOver {
		t.Errorf("another asked too late: %q", c.Route())
	}
	eager := &client.Dialer{Options: d.Options}
	eager.Eager = true
	for range 2 {
		if c := dialAgain(t, eager); c.Route() != client.HandedOver {
			t.Errorf("an eager one asked too late: %q", c.Route())
		}
	}
	refuse.Store(true)
	var refused *client.RefusedError
	for range 2 {
		if _, err := client.Dial(bounded(t), d.Options); !errors.As(err, &refused) {
			t.Errorf("Dial: %v", err)
		}
	}
	if _, err := dialAgain(t, d).Read(make([]byte, 1)); !errors.As(err, &refused) {
		t.Errorf("read: %v", err)
	}
	if _, err := d.Dial(bounded(t)); !errors.As(err, &refused) {
		t.Errorf("a Dialer that was refused does not ask at once: %v", err)
	}
}
