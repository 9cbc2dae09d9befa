package identity

import (
	"context"
	"crypto/sha256"
	"io"
	"os"

	"github.com/zeebo/blake3"
)

// Algorithm names the hash of DaemonProcess.exe_hash on the wire.
const Algorithm = "blake3"

// HashLen is the length of both hashes in bytes.
const HashLen = 32

// Digest is what identifies an executable file.
type Digest struct {
	BLAKE3 [HashLen]byte // exe_hash
	SHA256 [HashLen]byte // legacy trailer of the probe's answer
}

// FileHash reads the file once for both hashes. Errors: *os.PathError.
func FileHash(path string) (Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return Digest{}, err
	}
	defer f.Close()
	modern, legacy := blake3.New(), sha256.New()
	if _, err := io.Copy(io.MultiWriter(modern, legacy), f); err != nil {
		return Digest{}, err
	}
	var d Digest
	modern.Sum(d.BLAKE3[:0])
	legacy.Sum(d.SHA256[:0])
	return d, nil
}

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
