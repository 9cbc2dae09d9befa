package blake3_test

import (
	"bytes"
	"testing"

	referee "github.com/zeebo/blake3"

	"github.com/seed-7265657e/usher/internal/blake3"
)

func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

// TestReferee: every length at which the tree changes its shape.
func TestReferee(t *testing.T) {
	lengths := []int{0, 1, 31, 63, 64, 65, 127, 128, 1023, 1024, 1025}
	for chunks := 2; chunks < 40; chunks++ {
		lengths = append(lengths, chunks*1024-1, chunks*1024, chunks*1024+1)
	}
	lengths = append(lengths, 1<<20, 1<<20+1, 3<<20+777)
	for _, n := range lengths {
		b := content(n)
		if got, want := blake3.Sum256(b), referee.Sum256(b); got != want {
			t.Errorf("%d bytes: %x, want %x", n, got, want)
		}
	}
}

// FuzzHash: in whatever pieces it is written, and however often it is summed.
func FuzzHash(f *testing.F) {
	f.Add([]byte("1000:0123456789abcdef0123456789abcdef"), uint16(3))
	f.Add(content(5000), uint16(1024))
	f.Fuzz(func(t *testing.T, b []byte, piece uint16) {
		b = bytes.Repeat(b, 1+int(piece)%50)
		h := blake3.New()
		for done := 0; done < len(b); {
			n := min(len(b)-done, 1+int(piece))
			_, _ = h.Write(b[done : done+n])
			if done += n; h.Sum() != referee.Sum256(b[:done]) {
				t.Fatalf("differs after %d bytes", done)
			}
		}
	})
}

func BenchmarkMegabyte(b *testing.B) {
	content := content(1 << 20)
	b.SetBytes(1 << 20)
	for b.Loop() {
		blake3.Sum256(content)
	}
}
