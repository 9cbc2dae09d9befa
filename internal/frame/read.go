package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/seed-7265657e/usher/internal/wire"
)

// firstStep is how many body bytes are allocated before any has arrived. Real
// Hellos fit; a longer body grows with what the peer really sends, so that a
// declared length alone costs nothing.
const firstStep = 4 << 10

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
	var header [HeaderLen]byte
	n, err := io.ReadAtLeast(r, header[:], 1)
	if err != nil {
		return nil, readError(InVersion, err)
	}
	if err := judgeVersion(header[0]); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(r, header[n:]); err != nil {
		return nil, readError(InLength, err)
	}
	length, err := judgeLength(header, limit)
	if err != nil {
		return nil, err
	}
	return readGrowing(r, length)
}

// readGrowing reads length bytes into a buffer that doubles as they arrive.
func readGrowing(r io.Reader, length int) ([]byte, error) {
	body := make([]byte, min(length, firstStep))
	for done := 0; done < length; {
		if done == len(body) {
			grown := make([]byte, min(length, 2*len(body)))
			copy(grown, body)
			body = grown
		}
		n, err := io.ReadFull(r, body[done:])
		if err != nil {
			return nil, readError(InBody, err)
		}
		done += n
	}
	return body, nil
}

// Decode takes one frame from the front of buf and returns it with the number
// of bytes it took; the bytes behind it stay untouched. ErrNeedMore means that
// buf ends before the frame does; every other error is final for the stream
// and of the types that Read returns.
func Decode(buf []byte, limit uint32) (f *wire.Frame, consumed int, err error) {
	if len(buf) == 0 {
		return nil, 0, ErrNeedMore
	}
	if err := judgeVersion(buf[0]); err != nil {
		return nil, 0, err
	}
	if len(buf) < HeaderLen {
		return nil, 0, ErrNeedMore
	}
	length, err := judgeLength([HeaderLen]byte(buf), limit)
	if err != nil {
		return nil, 0, err
	}
	if len(buf)-HeaderLen < length {
		return nil, 0, ErrNeedMore
	}
	consumed = HeaderLen + length
	f, err = unmarshalFrame(buf[HeaderLen:consumed])
	if err != nil {
		return nil, 0, err
	}
	return f, consumed, nil
}

func judgeVersion(got byte) error {
	if got != Version {
		return &UnsupportedVersionError{Got: got}
	}
	return nil
}

func judgeLength(header [HeaderLen]byte, limit uint32) (int, error) {
	length := binary.LittleEndian.Uint32(header[1:])
	if limit = min(limit, MaxBody); length > limit {
		return 0, &TooLargeError{Len: length, Cap: limit}
	}
	return int(length), nil
}

func readError(context string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &EOFError{Context: context}
	}
	return fmt.Errorf("read the %s: %w", context, err)
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
