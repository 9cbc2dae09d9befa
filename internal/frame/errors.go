package frame

import (
	"errors"
	"fmt"
	"io"
)

// ErrNeedMore is what Decode answers while the buffer holds only the beginning
// of a frame. It is no fault: read more bytes and call again.
var ErrNeedMore = errors.New("the buffer ends before the frame does; read more bytes and decode again")

// UnsupportedVersionError: the first byte is not Version. It is judged before
// the length is looked at.
type UnsupportedVersionError struct{ Got byte }

func (e *UnsupportedVersionError) Error() string {
	return fmt.Sprintf("unsupported framing version %d, expected %d; the peer does not speak this protocol", e.Got, Version)
}

// TooLargeError: a body is longer than its cap, in bytes. On reading nothing
// was allocated and no body byte was read.
type TooLargeError struct{ Len, Cap uint32 }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("frame body of %d bytes exceeds the cap of %d; send less in one frame", e.Len, e.Cap)
}

// Where a stream can end too early.
const (
	InVersion = "framing byte"
	InLength  = "body length header"
	InBody    = "frame body"
)

// EOFError: the stream ended before the frame did. Context is InVersion,
// InLength or InBody; InVersion means that no byte of a frame had arrived. It
// wraps io.ErrUnexpectedEOF.
type EOFError struct{ Context string }

func (e *EOFError) Error() string {
	return "stream ended while reading the " + e.Context + "; the peer closed the connection"
}

func (e *EOFError) Unwrap() error { return io.ErrUnexpectedEOF }

// DecodeError: bytes that should be a message are not. What names the message.
type DecodeError struct {
	What string
	Err  error
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("malformed %s: %v", e.What, e.Err)
}

func (e *DecodeError) Unwrap() error { return e.Err }

// EnvelopeError: a frame is not of the kind and protocol that its reader
// expects. Text is one of the texts of spec 01 §2.
type EnvelopeError struct{ Text string }

func (e *EnvelopeError) Error() string { return e.Text }

// MismatchError: an answer does not belong to the question, by id or by token.
// It proves nothing about what the peer did with the question.
type MismatchError struct{ Text string }

func (e *MismatchError) Error() string { return e.Text }

// RejectedError: the peer refused a handoff explicitly. It is only returned
// when every other check of the answer held, so the peer did not take the
// connection.
type RejectedError struct{ Detail string }

func (e *RejectedError) Error() string {
	return "the backend rejected the handoff: " + e.Detail
}
