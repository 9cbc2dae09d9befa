package filehash

import (
	"context"
	"io"
	"os"

	"github.com/zeebo/blake3"
)

// HashLen is the length of a hash in bytes.
const HashLen = 32

// hashBlock is how much is read between two looks at the context.
const hashBlock = 1 << 20

// readBlock is a seam: tests have files whose reads do not come back.
var readBlock = (*os.File).Read

// contentHash is the BLAKE3 of an open regular file of size bytes, from its
// beginning. It calls moved behind each read. A file that grows meanwhile is errChanged.
func contentHash(ctx context.Context, f *os.File, size int64, moved func()) (sum [HashLen]byte, err error) {
	h, block := blake3.New(), make([]byte, min(hashBlock, size+1))
	for {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		n, err := readBlock(f, block)
		moved()
		_, _ = h.Write(block[:n]) // never fails
		switch size -= int64(n); {
		case size < 0:
			return sum, errChanged
		case err == io.EOF:
			h.Sum(sum[:0])
			return sum, nil
		case err != nil:
			return sum, err
		}
	}
}
