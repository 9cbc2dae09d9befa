package frame

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/seed-7265657e/usher/internal/wire"
)

// Read reads one frame whose body is at most limit bytes and returns it with
// the length of its body. Like ReadBody it never reads past the frame.
func Read(r io.Reader, limit uint32) (*wire.Frame, int, error) {
	body, err := ReadBody(r, limit)
	if err != nil {
		return nil, 0, err
	}
	f, err := unmarshalFrame(body)
	if err != nil {
		return nil, 0, err
	}
	return f, len(body), nil
}

// ReadBody reads one frame and returns its body, not yet decoded. It judges
// the version before the length and the length before it allocates (spec 01
// §1), and reads not one byte behind the frame: what follows belongs to
// whoever gets the connection next.
//
// Errors: *UnsupportedVersionError, *TooLargeError, *EOFError; any other fault
// of r is wrapped and keeps its identity. limit is in bytes, inclusive, and
// never above MaxBody.
func ReadBody(r io.Reader, limit uint32) ([]byte, error) {
	p := new(Partial)
	body, fault, err := p.fill(blocking{r}, limit, math.MaxInt)
	if fault != nil {
		return nil, fmt.Errorf("read the %s: %w", p.where(), fault)
	}
	return body, err
}

// blocking reads what is to come; a read that waits is never too many.
type blocking struct{ io.Reader }

func (b blocking) TryRead(p []byte) (int, error) {
	n, err := b.Read(p)
	if n > 0 {
		err = nil // the next read returns it again
	}
	return n, err
}

// Decode takes one frame from the front of buf and returns it with the number
// of bytes it took; the bytes behind it stay untouched. ErrNeedMore means that
// buf ends before the frame does; every other error is final for the stream
// and of the types that Read returns.
func Decode(buf []byte, limit uint32) (f *wire.Frame, consumed int, err error) {
	length, whole, err := Header(buf, limit)
	if err != nil {
		return nil, 0, err
	}
	if !whole || len(buf)-HeaderLen < length {
		return nil, 0, ErrNeedMore
	}
	consumed = HeaderLen + length
	f, err = unmarshalFrame(buf[HeaderLen:consumed])
	if err != nil {
		return nil, 0, err
	}
	return f, consumed, nil
}

// Header judges the beginning of a frame, the version before the length, and returns
// how long the body is. Not whole: there is no fault so far, and the header goes on
// behind head. Errors: *UnsupportedVersionError, *TooLargeError.
func Header(head []byte, limit uint32) (length int, whole bool, err error) {
	if len(head) > 0 && head[0] != Version {
		return 0, false, &UnsupportedVersionError{Got: head[0]}
	}
	if len(head) < HeaderLen {
		return 0, false, nil
	}
	n := binary.LittleEndian.Uint32(head[1:])
	if limit = min(limit, MaxBody); n > limit {
		return 0, false, &TooLargeError{Len: n, Cap: limit}
	}
	return int(n), true, nil
}

// Lacks returns how many bytes may be read behind head, which begins a frame, without
// reading past it: those of the header first. At least one, also where the beginning is
// faulty or the frame is whole.
func Lacks(head []byte, limit uint32) int {
	length, whole, err := Header(head, limit)
	switch {
	case err != nil:
		return 1
	case !whole:
		return HeaderLen - len(head)
	}
	return max(HeaderLen+length-len(head), 1)
}

func unmarshalFrame(body []byte) (*wire.Frame, error) {
	f := new(wire.Frame)
	if err := Unmarshal(body, f); err != nil {
		return nil, err
	}
	return f, nil
}

// Unmarshal decodes payload bytes into m, which is new. Unknown fields are dropped, so
// nothing a peer adds is kept or sent on. The error is a *DecodeError that
// names the message.
func Unmarshal(payload []byte, m wire.Message) error {
	if err := wire.Unmarshal(payload, m); err != nil {
		return &DecodeError{What: m.Name(), Err: err}
	}
	return nil
}
