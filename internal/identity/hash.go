package identity

import (
	"crypto/sha256"
	"fmt"
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

// contentHash is the BLAKE3 of an open regular file from its beginning.
func contentHash(f *os.File) (sum [HashLen]byte, err error) {
	h := blake3.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, fmt.Errorf("hash: %w", err)
	}
	h.Sum(sum[:0])
	return sum, nil
}
