package filehash

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestStalledReadLosesItsTurn: a file whose read does not come back keeps nobody else's
// from being hashed; when it comes back after all, its hash is good.
func TestStalledReadLosesItsTurn(t *testing.T) {
	testutil.Leaks(t)
	dir := t.TempDir()
	hung, other := filepath.Join(dir, "hung"), filepath.Join(dir, "other")
	writeFile(t, hung, "h")
	writeFile(t, other, "o")
	answer, asked := make(chan struct{}), make(chan struct{}, 1)
	read := readBlock
	readBlock = func(f *os.File, p []byte) (int, error) {
		if f.Name() == hung {
			select {
			case asked <- struct{}{}:
				<-answer
			default:
			}
		}
		return read(f, p)
	}
	defer func() { readBlock = read }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	defer func() {
		select {
		case <-answer:
		default:
			close(answer)
		}
	}()
	var c Cache
	first := ask(&c, hung)
	<-asked
	if sum, err := c.Hash(ctx, other); err != nil || sum != blake3.Sum256([]byte("o")) {
		t.Errorf("beside it: %x, %v", sum, err)
	}
	if n := stalled.Load(); n != 1 {
		t.Errorf("%d reads are stalled", n)
	}
	close(answer)
	if err := <-first.err; err != nil {
		t.Error("after all:", err)
	}
	first.cancel()
	if sum, err := c.Hash(ctx, hung); err != nil || sum != blake3.Sum256([]byte("h")) {
		t.Errorf("after all: %x, %v", sum, err)
	}
	if n := stalled.Load(); n != 0 || len(turn) != 0 {
		t.Errorf("at the end %d reads are stalled, %d turns taken", n, len(turn))
	}
}
