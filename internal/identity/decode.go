package identity

import (
	"errors"
	"fmt"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// ErrMissingEndpoint reports an identity that names no endpoint.
var ErrMissingEndpoint = errors.New("the identity names no ipc_endpoint: the process behind the endpoint is no v1 backend")

// Decode reads an encoded DaemonProcess and checks what v1 requires of one:
// an endpoint, the algorithm, the hash length, in this order. The legacy
// SHA-256 (field 3) is ignored. Errors: *frame.DecodeError, ErrMissingEndpoint, or
// one that says what is wrong with the hash.
func Decode(b []byte) (*wire.DaemonProcess, error) {
	p := new(wire.DaemonProcess)
	if err := frame.Unmarshal(b, p); err != nil {
		return nil, err
	}
	switch {
	case p.IpcEndpoint == nil:
		return nil, ErrMissingEndpoint
	case p.ExeHashAlgorithm != Algorithm:
		return nil, fmt.Errorf("executable hash algorithm %q is not supported; expected %q: update the backend", p.ExeHashAlgorithm, Algorithm)
	case len(p.ExeHash) != HashLen:
		return nil, fmt.Errorf("executable hash has %d bytes; expected %d", len(p.ExeHash), HashLen)
	}
	return p, nil
}
