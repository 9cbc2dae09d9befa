package identity

import (
	"crypto/sha256"
	"io"
	"os"

	"github.com/seed-7265657e/usher/internal/blake3"
)

// Algorithm names the hash of DaemonProcess.exe_hash on the wire.
const Algorithm = "blake3"

// HashLen is the length of both hashes in bytes.
const HashLen = blake3.Size

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
	d := Digest{BLAKE3: modern.Sum()}
	legacy.Sum(d.SHA256[:0])
	return d, nil
}
