//go:build unix

package endpoint_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestStartLock: one at a time, and all of them in the end.
func TestStartLock(t *testing.T) {
	testutil.Leaks(t)
	path := filepath.Join(testutil.SocketDir(t), "b.sock")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	inside := make(chan struct{}, 1)
	for range 16 {
		wg.Go(func() {
			lock, err := endpoint.LockStart(ctx, path)
			if err != nil {
				t.Error(err)
				return
			}
			select {
			case inside <- struct{}{}:
				<-inside
			default:
				t.Error("two hold it")
			}
			if err := lock.Unlock(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestStartLockEndsWithItsContext: who gives up holds nothing, then or later.
func TestStartLockEndsWithItsContext(t *testing.T) {
	testutil.Leaks(t)
	path := filepath.Join(testutil.SocketDir(t), "b.sock")
	first, err := endpoint.LockStart(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := endpoint.LockStart(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := first.Unlock(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	third, err := endpoint.LockStart(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := third.Unlock(); err != nil {
		t.Fatal(err)
	}
}
