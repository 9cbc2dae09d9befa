package frame_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

type framingVectors struct {
	Framing []struct {
		Name, Hex, Expect, Context string
		Got                        byte
		Len, Cap                   uint32
	}
	BufferDecoder []struct{ Hex, Expect string } `json:"buffer_decoder"`
}

func TestReadVectors(t *testing.T) {
	var v framingVectors
	testutil.Vectors(t, "invalid.json", &v)
	if len(v.Framing) == 0 {
		t.Fatal("the vectors are empty")
	}
	for _, c := range v.Framing {
		t.Run(c.Name, func(t *testing.T) {
			limit := uint32(frame.MaxBody)
			if c.Cap != 0 {
				limit = c.Cap
			}
			_, bodyLen, err := frame.Read(iotest.OneByteReader(bytes.NewReader(testutil.Hex(t, c.Hex))), limit)
			var version *frame.UnsupportedVersionError
			var large *frame.TooLargeError
			var eof *frame.EOFError
			switch c.Expect {
			case "UnsupportedFramingVersion":
				if !errors.As(err, &version) || version.Got != c.Got {
					t.Errorf("got %v, want version %d refused", err, c.Got)
				}
			case "FrameTooLarge":
				if !errors.As(err, &large) || large.Cap != c.Cap || c.Len != 0 && large.Len != c.Len {
					t.Errorf("got %v, want %d over %d", err, c.Len, c.Cap)
				}
			case "UnexpectedEof":
				if !errors.As(err, &eof) || eof.Context != c.Context || !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("got %v, want an end in the %s", err, c.Context)
				}
			case "ok, body length 0":
				if err != nil || bodyLen != 0 {
					t.Errorf("got %d bytes, %v", bodyLen, err)
				}
			default:
				t.Errorf("this test does not know %q", c.Expect)
			}
		})
	}
}

func TestDecodeVectors(t *testing.T) {
	var v framingVectors
	testutil.Vectors(t, "invalid.json", &v)
	if len(v.BufferDecoder) == 0 {
		t.Fatal("the vectors are empty")
	}
	for _, c := range v.BufferDecoder {
		t.Run("hex "+c.Hex, func(t *testing.T) {
			f, consumed, err := frame.Decode(testutil.Hex(t, c.Hex), frame.MaxBody)
			var ok bool
			switch c.Expect {
			case "need more":
				ok = errors.Is(err, frame.ErrNeedMore)
			case "UnsupportedFramingVersion":
				ok = errors.As(err, new(*frame.UnsupportedVersionError))
			case "FrameTooLarge":
				ok = errors.As(err, new(*frame.TooLargeError))
			case "Decode":
				ok = errors.As(err, new(*frame.DecodeError))
			case "Frame{envelope_version:1}, consumed 7":
				ok = err == nil && consumed == 7 && testutil.Equal(f, &wire.Frame{EnvelopeVersion: 1})
			}
			if !ok {
				t.Errorf("got %v, %d, %v; want %s", f, consumed, err, c.Expect)
			}
		})
	}
}

func TestReadLeavesWhatFollows(t *testing.T) {
	for _, size := range []int{0, 1, 4096, 4097, 100_000} {
		raw := encode(t, frame.Request(frame.Control, 1, bytes.Repeat([]byte{7}, size)))
		r := bytes.NewReader(append(raw, "early data"...))
		f, _, err := frame.Read(r, frame.MaxBody)
		if err != nil || len(f.Payload) != size {
			t.Fatalf("size %d: read %d bytes, %v", size, len(f.Payload), err)
		}
		if r.Len() != len("early data") {
			t.Errorf("size %d: %d bytes are left, want %d", size, r.Len(), len("early data"))
		}
	}
}

func TestReadCapIsInclusive(t *testing.T) {
	raw := encode(t, frame.Request(frame.Control, 1, make([]byte, 100)))
	bodyLen := uint32(len(raw) - frame.HeaderLen)
	if _, _, err := frame.Read(bytes.NewReader(raw), bodyLen); err != nil {
		t.Errorf("a body of exactly the cap: %v", err)
	}
	if _, _, err := frame.Read(bytes.NewReader(raw), bodyLen-1); !errors.As(err, new(*frame.TooLargeError)) {
		t.Errorf("one byte above the cap: %v", err)
	}
}

func TestReadKeepsOtherErrors(t *testing.T) {
	for _, got := range []string{"", "\x01", "\x01\x05\x00\x00\x00", "\x01\x05\x00\x00\x00ab"} {
		r := io.MultiReader(bytes.NewReader([]byte(got)), iotest.ErrReader(os.ErrDeadlineExceeded))
		_, err := frame.ReadBody(r, frame.MaxBody)
		if !errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, new(*frame.EOFError)) {
			t.Errorf("after %q: got %v, want the timeout kept", got, err)
		}
	}
}

// TestDeclaredLengthCostsNothing: the largest legal length with next to no body
// behind it must not be allocated.
func TestDeclaredLengthCostsNothing(t *testing.T) {
	header := append([]byte{1, 0, 0, 0, 1}, make([]byte, 600)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 8 {
		if _, err := frame.ReadBody(bytes.NewReader(header), frame.MaxBody); !errors.As(err, new(*frame.EOFError)) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if spent := after.TotalAlloc - before.TotalAlloc; spent > 1<<20 {
		t.Errorf("eight nearly empty promises of 16 MiB cost %d bytes", spent)
	}
}

func encode(t testing.TB, f *wire.Frame) []byte {
	t.Helper()
	raw, err := frame.Append(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestLacks reads a frame by what it lacks, in pieces, and never a byte of what follows.
func TestLacks(t *testing.T) {
	whole, err := frame.Append(nil, frame.HandoffReady([]byte("token"), 1))
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		want := frame.HeaderLen - n
		if n >= frame.HeaderLen {
			want = len(whole) - n
		}
		if got := frame.Lacks(whole[:n], frame.MaxBody); got != want {
			t.Errorf("with %d bytes of %d it lacks %d, want %d", n, len(whole), got, want)
		}
	}
	for _, head := range [][]byte{whole, {frame.Version + 1}, {frame.Version, 255, 255, 255, 255}} {
		if got := frame.Lacks(head, frame.MaxBody); got != 1 {
			t.Errorf("%v lacks %d, want 1", head, got)
		}
	}
}
