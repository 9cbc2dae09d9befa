package identity

import (
	"errors"
	"fmt"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// ErrMissingEndpoint reports an identity that names no endpoint.
var ErrMissingEndpoint = errors.New("the identity names no ipc_endpoint: the process behind the endpoint is no v1 backend")

// HashAlgorithmError reports an executable hash of an unsupported algorithm.
type HashAlgorithmError struct {
	Algorithm string
}

func (e *HashAlgorithmError) Error() string {
	return fmt.Sprintf("executable hash algorithm %q is not supported; expected %q: update the backend", e.Algorithm, Algorithm)
}

// HashLengthError reports an executable hash of the wrong length.
type HashLengthError struct {
	Len int // bytes
}

func (e *HashLengthError) Error() string {
	return fmt.Sprintf("executable hash has %d bytes; expected %d", e.Len, HashLen)
}

// Decode reads an encoded DaemonProcess and checks what v1 requires of one:
// an endpoint, the algorithm, the hash length, in this order. The legacy
// SHA-256 (field 3) is ignored. Errors: *frame.DecodeError, ErrMissingEndpoint,
// *HashAlgorithmError, *HashLengthError.
func Decode(b []byte) (*wire.DaemonProcess, error) {
	p := new(wire.DaemonProcess)
	if err := frame.Unmarshal(b, p); err != nil {
		return nil, err
	}
	switch {
	case p.IpcEndpoint == nil:
		return nil, ErrMissingEndpoint
	case p.ExeHashAlgorithm != Algorithm:
		return nil, &HashAlgorithmError{Algorithm: p.ExeHashAlgorithm}
	case len(p.ExeHash) != HashLen:
		return nil, &HashLengthError{Len: len(p.ExeHash)}
	}
	return p, nil
}
