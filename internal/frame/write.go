package frame

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/seed-7265657e/usher/internal/wire"
)

// Append appends the framed bytes of f to dst: fields in ascending order,
// defaults omitted, maps sorted. A body above MaxBody is refused with
// *TooLargeError; on any error dst comes back unchanged.
func Append(dst []byte, f *wire.Frame) ([]byte, error) {
	out := slices.Grow(dst, HeaderLen+len(f.Payload)+envelopeRoom)
	out = append(out, Version, 0, 0, 0, 0)
	body := len(out)
	out, err := wire.Append(out, f)
	if err != nil {
		return dst, fmt.Errorf("encode frame: %w", err)
	}
	size := len(out) - body
	if size > MaxBody {
		return dst, &TooLargeError{Len: uint32(min(uint64(size), math.MaxUint32)), Cap: MaxBody}
	}
	binary.LittleEndian.PutUint32(out[body-HeaderLen+1:], uint32(size))
	return out, nil
}

// envelopeRoom is what an envelope without a trace takes, in bytes.
const envelopeRoom = 48

// Write sends f with one call of w.Write and returns how many bytes went out.
// w keeps its owner.
func Write(w io.Writer, f *wire.Frame) (int, error) {
	raw, err := Append(nil, f)
	if err != nil {
		return 0, err
	}
	n, err := w.Write(raw)
	if err != nil {
		return n, fmt.Errorf("write frame: %w", err)
	}
	return n, nil
}
