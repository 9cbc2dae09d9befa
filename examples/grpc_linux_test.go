package examples_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/world"
)

// TestGRPC: a gRPC server takes the backend's listener and a gRPC client the
// client's dialer as they are, whichever way the connection came about.
func TestGRPC(t *testing.T) {
	for _, tc := range []struct {
		name      string
		noHandoff bool
	}{{"handed over", false}, {"reconnected", true}} {
		t.Run(tc.name, func(t *testing.T) { testGRPC(t, tc.noHandoff) })
	}
}

func testGRPC(t *testing.T, noHandoff bool) {
	testutil.Leaks(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, "grpc", self)
	ln := &routes{Listener: listen(t, w)}
	server, checks := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(server, checks)
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient("passthrough:///grpc",
		grpc.WithContextDialer(client.GRPC(client.Options{Service: "grpc", Version: "2.0.0", Broker: w.Socket(), NoHandoff: noHandoff})),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	talk(t, healthpb.NewHealthClient(conn), checks)
	handedOver, dialled := ln.handedOver.Load(), ln.dialled.Load()
	if want := int32(1); noHandoff && (handedOver != 0 || dialled != want) || !noHandoff && (handedOver != want || dialled != 0) {
		t.Errorf("%d connections handed over, %d dialled", handedOver, dialled)
	}
}

// talk makes a call, a failing call, and a stream that the server goes on with.
func talk(t *testing.T, c healthpb.HealthClient, checks *health.Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reply, err := c.Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil || reply.Status != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("%v, %v", reply, err)
	}
	if _, err := c.Check(ctx, &healthpb.HealthCheckRequest{Service: "x"}); status.Code(err) != codes.NotFound {
		t.Errorf("unknown service: %v", err)
	}
	stream, err := c.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []healthpb.HealthCheckResponse_ServingStatus{
		healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING, healthpb.HealthCheckResponse_SERVING,
	} {
		checks.SetServingStatus("", want)
		if got, err := stream.Recv(); err != nil || got.Status != want {
			t.Fatalf("%v, %v, want %v", got, err, want)
		}
	}
	cancel()
	if _, err := stream.Recv(); errors.Is(err, io.EOF) || status.Code(err) != codes.Canceled {
		t.Errorf("cancelled stream: %v", err)
	}
}

func listen(t *testing.T, w *world.World) *backend.Listener {
	t.Helper()
	ln, err := backend.Listen(t.Context(), backend.Options{
		Service: "grpc", Version: "2.0.0", Broker: w.Socket(), Pipe: w.Path("grpc.sock"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	if err := ln.WaitRegistered(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ln
}

// routes counts how connections came about.
type routes struct {
	net.Listener
	handedOver, dialled atomic.Int32
}

// Accept implements net.Listener.
func (r *routes) Accept() (net.Conn, error) {
	c, err := r.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if c.(*backend.Conn).HandedOver() {
		r.handedOver.Add(1)
	} else {
		r.dialled.Add(1)
	}
	return c, nil
}
