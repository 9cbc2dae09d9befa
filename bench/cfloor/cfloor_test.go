package cfloor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/bench/cfloor"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/world"
)

// TestExchange: usher's own client is served on both routes, and both processes
// keep nothing.
func TestExchange(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the C floor needs Linux")
	}
	testutil.Leaks(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	w, err := world.New(ctx, "echo", os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	program, err := cfloor.Build(ctx, w.Dir)
	if errors.Is(err, cfloor.ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, claims := range []cfloor.Claims{cfloor.Page, cfloor.Descriptors} {
		t.Run(string(claims), func(t *testing.T) { exchange(ctx, t, w, program, claims) })
	}
}

func exchange(ctx context.Context, t *testing.T, w *world.World, program string, claims cfloor.Claims) {
	f, err := cfloor.Start(ctx, w, program, claims)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Quit(); err != nil {
			t.Error(err)
		}
	}()
	once := func(noHandoff bool, want client.Route) {
		t.Helper()
		c, err := client.DialWith(ctx, client.Options{Service: "echo", Version: "1.0.0", Broker: f.Socket, NoHandoff: noHandoff}, []byte("first"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		buf := make([]byte, 5)
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "first" || c.Route() != want {
			t.Fatalf("%q by route %s, %v; want %s", buf, c.Route(), err, want)
		}
		if _, err := c.Write([]byte("again")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "again" {
			t.Fatalf("%q, %v", buf, err)
		}
	}
	once(false, client.HandedOver)
	before := [2]int{open(t, f.BrokerPID), open(t, f.BackendPID)}
	for range 200 {
		once(false, client.HandedOver)
		once(true, client.Reconnected)
	}
	testutil.WaitFor(t, "descriptors are back", func() bool {
		return open(t, f.BrokerPID) <= before[0] && open(t, f.BackendPID) <= before[1]
	})
}

func open(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
