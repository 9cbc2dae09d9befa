package frame

import (
	"errors"
	"io"

	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TryReader reads what is there without waiting. Having nothing is an error of its
// own (EAGAIN), the end of the stream io.EOF.
type TryReader interface {
	TryRead(p []byte) (int, error)
}

// Partial reads one frame in as many steps as its bytes take to arrive. Like
// ReadBody it judges the version before the length and the length before it
// allocates, and never reads past the frame. The zero value is ready for one
// frame.
type Partial struct {
	header [HeaderLen]byte
	body   []byte
	length int
	done   int // bytes read, of the header first, then of the body
	within bool
	small  [512]byte // a Hello's body; a larger one is allocated
}

// readsAtOnce is how many reads one Fill makes: as many as a frame takes whose bytes
// are all there. A peer can make each read slow, by a byte of its own with descriptors
// beside it that the kernel has to close; others have their turn in between.
const readsAtOnce = 2

// Fill reads on and returns the frame's body once it is whole; it is valid as long
// as p. An error of r that is not io.EOF comes back as it is: after EAGAIN, which Fill
// also returns when it has read enough for once, it goes on where it was. The others
// are those of ReadBody.
func (p *Partial) Fill(r TryReader, limit uint32) ([]byte, error) {
	body, fault, err := p.fill(r, limit, readsAtOnce)
	if fault != nil {
		return nil, fault
	}
	return body, err
}

// fill reads on, at most reads times. fault is r's, and EAGAIN after the last read;
// err says what is wrong with the frame.
func (p *Partial) fill(r TryReader, limit uint32, reads int) (body []byte, fault, err error) {
	for ; ; reads-- {
		if p.within && p.done == p.length {
			return p.body, nil, nil
		}
		if reads == 0 {
			return nil, errno.EAGAIN, nil
		}
		n, fault := r.TryRead(p.room())
		switch {
		case errors.Is(fault, io.EOF):
			return nil, nil, &EOFError{Context: p.where()}
		case fault != nil:
			return nil, fault, nil
		}
		p.done += n
		if p.within {
			continue
		}
		length, whole, err := Header(p.header[:p.done], limit)
		if err != nil {
			return nil, nil, err
		}
		if whole {
			p.body, p.length, p.done, p.within = p.small[:min(length, len(p.small))], length, 0, true
		}
	}
}

// room is where the next bytes go: into a body that doubles as they arrive, so that a
// declared length alone costs nothing.
func (p *Partial) room() []byte {
	if !p.within {
		return p.header[p.done:]
	}
	if p.done == len(p.body) {
		grown := make([]byte, min(p.length, 2*len(p.body)))
		copy(grown, p.body)
		p.body = grown
	}
	return p.body[p.done:]
}

// Received returns a copy of the bytes that have been read.
func (p *Partial) Received() []byte {
	if !p.within {
		return append([]byte(nil), p.header[:p.done]...)
	}
	return append(append([]byte(nil), p.header[:]...), p.body[:p.done]...)
}

// Held returns how many bytes of memory the frame has taken so far.
func (p *Partial) Held() int { return cap(p.body) }

// where is what of the frame is read next.
func (p *Partial) where() string {
	switch {
	case p.within:
		return InBody
	case p.done == 0:
		return InVersion
	}
	return InLength
}

// Open decodes the body of a frame.
func Open(body []byte) (*wire.Frame, error) { return unmarshalFrame(body) }
