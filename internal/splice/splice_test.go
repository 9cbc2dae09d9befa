//go:build unix

package splice_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/splice"
	"github.com/seed-7265657e/usher/internal/testutil"
)

const (
	patience = 60 * time.Second
	aWhile   = time.Second // in which who waits should do nothing, and others may do something
)

// joined are the two far ends of connections that are joined, and what becomes of it.
func joined(t *testing.T, ctx context.Context) (near, far *net.UnixConn, ended <-chan error) {
	t.Helper()
	testutil.Leaks(t)
	near, a := testutil.SocketPair(t)
	far, b := testutil.SocketPair(t)
	for _, c := range []*net.UnixConn{near, far} {
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- splice.Join(ctx, a, b) }()
	return near, far, done
}

// TestJoin: both ways at once, more than any buffer holds; each direction ends by itself.
func TestJoin(t *testing.T) {
	near, far, ended := joined(t, t.Context())
	sent := make([]byte, 3<<20)
	_, _ = rand.Read(sent)
	go func() {
		_, _ = io.Copy(far, far) // an echo, that ends when its input has
		_ = far.CloseWrite()
	}()
	go func() {
		_, _ = near.Write(sent)
		_ = near.CloseWrite()
	}()
	got, err := io.ReadAll(near)
	if !bytes.Equal(got, sent) || err != nil {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestGone: a side that has gone is told to the other, whose writes fail and whose reads end.
func TestGone(t *testing.T) {
	near, far, ended := joined(t, t.Context())
	_ = near.Close()
	if n, err := far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read %d, %v", n, err)
	}
	var err error
	for err == nil {
		_, err = far.Write(make([]byte, 1<<10))
	}
	_ = far.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestSlowReader: it holds up his writer, and what was on its way arrives though the writer
// has gone meanwhile. Who waits for him sleeps.
func TestSlowReader(t *testing.T) {
	near, far, ended := joined(t, t.Context())
	data := make([]byte, 16<<20)
	if err := near.SetWriteDeadline(time.Now().Add(aWhile)); err != nil {
		t.Fatal(err)
	}
	before, began := processorTime(t), time.Now()
	sent, err := near.Write(data)
	if !errors.Is(err, os.ErrDeadlineExceeded) || sent > 4<<20 {
		t.Fatalf("%d bytes went, %v", sent, err)
	}
	if spent, waited := processorTime(t)-before, time.Since(began); spent > waited/4 {
		t.Errorf("%v of %v were spent", spent, waited)
	}
	_ = near.Close()
	if got, err := io.Copy(io.Discard, far); got != int64(sent) || err != nil {
		t.Errorf("%d bytes of %d arrived, %v", got, sent, err)
	}
	_ = far.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// processorTime is what this process has had.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestCancelled: with its context, Join ends whoever is silent.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	near, far, ended := joined(t, ctx)
	if _, err := near.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n, err := far.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d, %v", n, err)
	}
}

// TestOneAfterTheOther: what one pair leaves behind serves the next while others are joined,
// however it has ended.
func TestOneAfterTheOther(t *testing.T) {
	keep, stop := context.WithCancel(t.Context())
	_, _, kept := joined(t, keep)
	bothGo := func(near, far *net.UnixConn, _ func()) { _, _ = near.Close(), far.Close() }
	for _, end := range []func(near, far *net.UnixConn, cancel func()){
		func(_, _ *net.UnixConn, cancel func()) { cancel() },
		bothGo,
		func(near, far *net.UnixConn, _ func()) { // with something on its way that nobody reads
			_ = near.SetWriteDeadline(time.Now().Add(patience / 100))
			_, _ = near.Write(make([]byte, 16<<20))
			bothGo(near, far, nil)
		},
		bothGo,
	} {
		ctx, cancel := context.WithCancel(t.Context())
		near, far, ended := joined(t, ctx)
		for range 2 { // the second has been waited for
			if _, err := near.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(io.LimitReader(far, 1)); string(got) != "x" || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
		}
		end(near, far, cancel)
		if err := <-ended; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
		cancel()
	}
	stop()
	<-kept
}

// TestHalfClosed: when one direction has ended, who waits for the other sleeps.
func TestHalfClosed(t *testing.T) {
	near, far, ended := joined(t, t.Context())
	_ = near.CloseWrite()
	if n, err := far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("read %d, %v", n, err)
	}
	before, began := processorTime(t), time.Now()
	_ = near.SetReadDeadline(began.Add(aWhile))
	if n, err := near.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d, %v", n, err)
	}
	if spent, waited := processorTime(t)-before, time.Since(began); spent > waited/10 {
		t.Errorf("%v of %v were spent", spent, waited)
	}
	_ = far.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
