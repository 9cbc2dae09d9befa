package identity

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/frame"
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
func Decode(b []byte) (*brokerpb.DaemonProcess, error) {
	p := new(brokerpb.DaemonProcess)
	if err := frame.Unmarshal(b, p); err != nil {
		return nil, err
	}
	switch {
	case p.GetIpcEndpoint() == nil:
		return nil, ErrMissingEndpoint
	case p.GetExeHashAlgorithm() != Algorithm:
		return nil, &HashAlgorithmError{Algorithm: p.GetExeHashAlgorithm()}
	case len(p.GetExeHash()) != HashLen:
		return nil, &HashLengthError{Len: len(p.GetExeHash())}
	}
	return p, nil
}

// Compare checks that got is the expected process. Paths are compared as text;
// start time and idle timeout are not compared (spec 01 §11, check 10). Nothing
// but Probe calls it: it is here because the specification's vectors
// (identity.json, probe_compare) must hold.
// Errors: *MismatchError.
func Compare(expected, got *brokerpb.DaemonProcess) error {
	want, have := expected.GetIpcEndpoint(), got.GetIpcEndpoint()
	field := ""
	switch {
	case expected.GetPid() != got.GetPid():
		field = "pid"
	case expected.GetExePath() != got.GetExePath():
		field = "exe_path"
	case !bytes.Equal(expected.GetExeHash(), got.GetExeHash()):
		field = "exe_hash"
	case expected.GetBootId() != got.GetBootId():
		field = "boot_id"
	case want.GetNamespaceId() != have.GetNamespaceId() || want.GetPath() != have.GetPath():
		field = "ipc_endpoint"
	default:
		return nil
	}
	return &MismatchError{Field: field}
}
