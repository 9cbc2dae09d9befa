package identity

import (
	"bytes"
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

// MismatchError reports that another process than the expected one answered.
type MismatchError struct {
	Field string // first differing field by its wire name
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("identity mismatch in %s: another process serves the endpoint", e.Field)
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

// Compare checks that got is the expected process. Paths are compared as text;
// start time and idle timeout are not compared (spec 01 §11, check 10). Nothing
// but Probe calls it: it is here because the specification's vectors
// (identity.json, probe_compare) must hold.
// Errors: *MismatchError.
func Compare(expected, got *wire.DaemonProcess) error {
	want, have := expected.IpcEndpoint, got.IpcEndpoint
	field := ""
	switch {
	case expected.Pid != got.Pid:
		field = "pid"
	case expected.ExePath != got.ExePath:
		field = "exe_path"
	case !bytes.Equal(expected.ExeHash, got.ExeHash):
		field = "exe_hash"
	case expected.BootId != got.BootId:
		field = "boot_id"
	case want.NamespaceId != have.NamespaceId || want.Path != have.Path:
		field = "ipc_endpoint"
	default:
		return nil
	}
	return &MismatchError{Field: field}
}
