package identity

import (
	"errors"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// nonceLen is the length of a probe's random challenge in bytes.
const nonceLen = 32

// AnswerProbe builds the answer to a probe: the nonce, self, and behind it the
// SHA-256 of the executable as field 3, which brokers older than the BLAKE3
// identity require and newer ones ignore. A malformed probe gets no answer: the
// caller closes the connection. Errors: *frame.EnvelopeError, or
// that the nonce is not 32 bytes long.
func AnswerProbe(f *wire.Frame, self *wire.DaemonProcess, legacy [HashLen]byte) (*wire.Frame, error) {
	if err := frame.Check(f, wire.FrameKind_FRAME_KIND_REQUEST, frame.Probe); err != nil {
		return nil, err
	}
	nonce := f.Payload
	if len(nonce) != nonceLen {
		return nil, errors.New("nonce must be 32 bytes")
	}
	const field3, length = 3<<3 | 2, HashLen
	payload := append([]byte(nil), nonce...)
	payload = append(payload, wire.Marshal(self)...)
	payload = append(payload, field3, length)
	payload = append(payload, legacy[:]...)
	return frame.Response(f, payload), nil
}
