package frame

import (
	"errors"
	"io"
	"syscall"

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
	reads := 0
	for !p.within {
		if reads++; reads > readsAtOnce {
			return nil, syscall.EAGAIN
		}
		n, err := r.TryRead(p.header[p.done:])
		if err != nil {
			return nil, p.ended(err)
		}
		if p.done == 0 {
			if err := judgeVersion(p.header[0]); err != nil {
				return nil, err
			}
		}
		if p.done += n; p.done < HeaderLen {
			continue
		}
		if p.length, err = judgeLength(p.header, limit); err != nil {
			return nil, err
		}
		p.body, p.done, p.within = p.small[:min(p.length, len(p.small))], 0, true
	}
	for p.done < p.length {
		if p.done == len(p.body) {
			grown := make([]byte, min(p.length, 2*len(p.body)))
			copy(grown, p.body)
			p.body = grown
		}
		if reads++; reads > readsAtOnce {
			return nil, syscall.EAGAIN
		}
		n, err := r.TryRead(p.body[p.done:])
		if err != nil {
			return nil, p.ended(err)
		}
		p.done += n
	}
	return p.body, nil
}

// Held returns how many bytes of memory the frame has taken so far.
func (p *Partial) Held() int { return cap(p.body) }

func (p *Partial) ended(err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	switch {
	case p.within:
		return &EOFError{Context: InBody}
	case p.done == 0:
		return &EOFError{Context: InVersion}
	}
	return &EOFError{Context: InLength}
}

// Open decodes the body of a frame.
func Open(body []byte) (*wire.Frame, error) { return unmarshalFrame(body) }
