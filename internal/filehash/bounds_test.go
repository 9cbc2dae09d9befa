package filehash

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// sparse makes a file that takes long to read and no room.
func sparse(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sparse")
	writeFile(t, path, "")
	if err := os.Truncate(path, size); err != nil {
		t.Skipf("no sparse files here: %v", err)
	}
	return path
}

// asked is one call of Hash.
type asked struct {
	cancel context.CancelFunc
	err    chan error
}

func ask(c *Cache, path string) asked {
	ctx, cancel := context.WithCancel(context.Background())
	a := asked{cancel, make(chan error, 1)}
	go func() {
		_, err := c.Hash(ctx, path)
		a.err <- err
	}()
	return a
}

// givesUp cancels the call, which says so.
func (a asked) givesUp(t *testing.T) {
	t.Helper()
	a.cancel()
	if err := <-a.err; !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

func underWay() bool { return len(turn) == 1 }

// TestHugeFileIsNotRead: a file of any size costs nothing to make.
func TestHugeFileIsNotRead(t *testing.T) {
	var c Cache
	const size = 1 << 40
	path := sparse(t, size)
	_, err := c.Hash(t.Context(), path)
	var large *TooLargeError
	if !errors.As(err, &large) || large.Size != size || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "1099511627776 bytes") {
		t.Errorf("Hash says %v", err)
	}
	if len(c.files) != 0 {
		t.Error("the failure is remembered")
	}
}

// TestHashingEndsWithItsAsker: nobody reads on for somebody who has gone.
func TestHashingEndsWithItsAsker(t *testing.T) {
	testutil.Leaks(t)
	var c Cache
	a := ask(&c, sparse(t, maxHashed))
	testutil.WaitFor(t, "the file is read", underWay)
	a.givesUp(t)
	if underWay() || len(c.files) != 0 {
		t.Error("something is left of it")
	}
}

// TestOthersGoOnWhenTheFirstAskerGivesUp: they share his reading, not his end.
func TestOthersGoOnWhenTheFirstAskerGivesUp(t *testing.T) {
	testutil.Leaks(t)
	var c Cache
	path := sparse(t, maxHashed)
	first := ask(&c, path)
	testutil.WaitFor(t, "the file is read", underWay)
	second := ask(&c, path)
	first.givesUp(t)
	testutil.WaitFor(t, "the file is read for the second", underWay)
	select {
	case err := <-second.err:
		t.Errorf("the second got %v", err)
	default:
	}
	second.givesUp(t)
}

// TestOneFileIsHashedAtATime: others wait their turn, and no longer than they
// want to.
func TestOneFileIsHashedAtATime(t *testing.T) {
	testutil.Leaks(t)
	var c, other Cache
	first := ask(&c, sparse(t, maxHashed))
	testutil.WaitFor(t, "the file is read", underWay)
	small := filepath.Join(t.TempDir(), "small")
	writeFile(t, small, "x")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // reading it takes none of that
	defer cancel()
	if _, err := other.Hash(ctx, small); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("beside another file: %v", err)
	}
	first.givesUp(t)
	if sum, err := other.Hash(t.Context(), small); err != nil || sum != blake3.Sum256([]byte("x")) {
		t.Errorf("in its turn: %x, %v", sum, err)
	}
}

// TestGrowingFileIsNotRead beyond the size that it was judged by.
func TestGrowingFileIsNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	writeFile(t, path, "four")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := contentHash(t.Context(), f, 3, func() {}); !errors.Is(err, errChanged) {
		t.Errorf("got %v", err)
	}
}
