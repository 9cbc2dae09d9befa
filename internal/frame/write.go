package frame

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/seed-7265657e/usher/internal/brokerpb"
)

// Append appends the framed bytes of f to dst: fields in ascending order,
// defaults omitted, maps sorted. A body above MaxBody is refused with
// *TooLargeError; on any error dst comes back unchanged.
func Append(dst []byte, f *brokerpb.Frame) ([]byte, error) {
	options := proto.MarshalOptions{Deterministic: true}
	size := options.Size(f)
	if size > MaxBody {
		return dst, &TooLargeError{Len: uint32(min(uint64(size), math.MaxUint32)), Cap: MaxBody}
	}
	out := append(dst, Version)
	out = binary.LittleEndian.AppendUint32(out, uint32(size))
	out, err := options.MarshalAppend(out, f)
	if err != nil {
		return dst, fmt.Errorf("encode frame: %w", err)
	}
	return out, nil
}

// Write sends f with one call of w.Write and returns how many bytes went out.
// w keeps its owner.
func Write(w io.Writer, f *brokerpb.Frame) (int, error) {
	wire, err := Append(nil, f)
	if err != nil {
		return 0, err
	}
	n, err := w.Write(wire)
	if err != nil {
		return n, fmt.Errorf("write frame: %w", err)
	}
	return n, nil
}
