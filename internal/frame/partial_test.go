package frame_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// drops gives one piece per call, and between two of them nothing.
type drops struct {
	pieces [][]byte
	dry    bool
}

func (d *drops) TryRead(p []byte) (int, error) {
	if d.dry = !d.dry; d.dry {
		return 0, errno.EAGAIN
	}
	if len(d.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, d.pieces[0])
	if d.pieces[0] = d.pieces[0][n:]; len(d.pieces[0]) == 0 {
		d.pieces = d.pieces[1:]
	}
	return n, nil
}

// fill fills a Partial until it says something other than EAGAIN.
func fill(r frame.TryReader, limit uint32) (body []byte, err error) {
	var p frame.Partial
	for err = errno.EAGAIN; errors.Is(err, errno.EAGAIN); {
		body, err = p.Fill(r, limit)
	}
	return body, err
}

// TestPartial: a frame that comes in two parts, cut anywhere, is the frame that
// comes at once, and what follows it stays unread.
func TestPartial(t *testing.T) {
	for _, size := range []int{0, 1, 500, 600, 5000} {
		f := &wire.Frame{EnvelopeVersion: 1, Payload: bytes.Repeat([]byte("x"), size)}
		raw := encode(t, f)
		step := max(1, len(raw)/300)
		for cut := 0; cut <= len(raw); cut += step {
			r := &drops{pieces: [][]byte{raw[:cut], append(bytes.Clone(raw[cut:]), "rest"...)}}
			if cut == 0 {
				r.pieces = r.pieces[1:]
			}
			body, err := fill(r, frame.MaxHelloBody)
			if err != nil {
				t.Fatalf("%d bytes cut at %d: %v", size, cut, err)
			}
			got, err := frame.Open(body)
			if err != nil || !testutil.Equal(got, f) {
				t.Fatalf("%d bytes cut at %d: %v, %v", size, cut, got, err)
			}
			if rest := bytes.Join(r.pieces, nil); string(rest) != "rest" {
				t.Fatalf("%d bytes cut at %d: %q is left", size, cut, rest)
			}
		}
	}
}

// FuzzPartial: it judges whatever comes as ReadBody does.
func FuzzPartial(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, buf []byte) {
		want, wantErr := frame.ReadBody(bytes.NewReader(buf), frame.MaxHelloBody)
		var pieces [][]byte
		for i := 0; i < len(buf); i += 3 {
			pieces = append(pieces, bytes.Clone(buf[i:min(i+3, len(buf))]))
		}
		got, err := fill(&drops{pieces: pieces}, frame.MaxHelloBody)
		if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() || !bytes.Equal(got, want) {
			t.Fatalf("got %x, %v; want %x, %v", got, err, want, wantErr)
		}
	})
}

// counted counts the reads.
type counted struct {
	from  *bytes.Reader
	reads int
}

func (c *counted) TryRead(p []byte) (int, error) {
	c.reads++
	return c.from.Read(p[:1])
}

// TestPartialReadsLittleAtOnce: however small the pieces are in which a frame comes,
// one call makes a few reads, and others have their turn.
func TestPartialReadsLittleAtOnce(t *testing.T) {
	var p frame.Partial
	r := &counted{from: bytes.NewReader(encode(t, &wire.Frame{EnvelopeVersion: 1, Payload: make([]byte, 100)}))}
	for calls := 1; ; calls++ {
		_, err := p.Fill(r, frame.MaxHelloBody)
		if r.reads > 2*calls {
			t.Fatalf("%d reads in %d calls", r.reads, calls)
		}
		if err == nil {
			return
		}
		if !errors.Is(err, errno.EAGAIN) {
			t.Fatal(err)
		}
	}
}
