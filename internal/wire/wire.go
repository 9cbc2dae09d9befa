// Package wire holds the messages of the wire as plain structs, and one codec for
// all of them: the wire format of Protocol Buffers, without reflection and without
// work at process start. The schema is in proto/; generated code and its runtime
// are the tests' referee (package wire_test in internal/wire) and are linked into
// nothing that ships.
//
// A message names its fields once, in the method fields; what is written and what
// is read both follow from that. The rules, which are proto3's:
//
//   - fields are written in ascending order, scalars at their default are left out,
//     maps are sorted by key;
//   - fields are read in any order; of a scalar that comes twice the last one
//     counts, a message that comes twice is merged;
//   - an unknown field, and a known one of another wire type, is skipped and not
//     kept; an unknown number of an enum is kept;
//   - text is UTF-8, anything else is an error.
//
// A leaf: it imports nothing of usher.
package wire

import (
	"errors"
	"slices"
	"sync"
)

// Message is one message of the wire. Only this package has some.
type Message interface {
	// Name is the message's name in the schema.
	Name() string
	// fields hands each field to the coder, in ascending order of their numbers.
	fields(c *coder)
}

// ErrMalformed: bytes are no message of the wire format.
var ErrMalformed = errors.New("the bytes are no message of the wire format")

// ErrText: text is not UTF-8.
var ErrText = errors.New("text is not UTF-8")

// Append appends the bytes of m to dst. The error is ErrText, and dst comes back
// unchanged then.
func Append(dst []byte, m Message) ([]byte, error) {
	c := coders.Get().(*coder)
	c.encoding, c.out = true, dst
	m.fields(c)
	out, err := c.out, c.err
	c.recycle()
	if err != nil {
		return dst, err
	}
	return out, nil
}

// Marshal returns the bytes of m. Text that is not UTF-8 is repaired with U+FFFD.
func Marshal(m Message) []byte {
	c := coders.Get().(*coder)
	c.encoding, c.repair, c.out = true, true, c.room[:0]
	m.fields(c)
	out := slices.Clone(c.out)
	if cap(c.out) <= maxRoom {
		c.room = c.out
	}
	c.recycle()
	return out
}

// Unmarshal reads the bytes of a message into m, which is new. What m holds is
// shared with nothing. Errors: ErrMalformed, ErrText.
func Unmarshal(b []byte, m Message) error {
	c := coders.Get().(*coder)
	c.read(b, m)
	err := c.err
	c.recycle()
	return err
}

// coders are reused, so that coding a message allocates nothing but the result.
var coders = sync.Pool{New: func() any { return new(coder) }}

// maxRoom bounds the buffer that a coder keeps, in bytes.
const maxRoom = 4 << 10

func (c *coder) recycle() {
	*c = coder{room: c.room}
	coders.Put(c)
}
