package wire

import (
	"encoding/binary"
	"math"
)

// The wire types of fields.
const (
	varint uint64 = iota
	fixed64
	delimited
	groupStart
	groupEnd
	fixed32
)

// Field numbers are 1 to maxNumber. Within a group, which no message has and all
// of which is skipped, Protocol Buffers let numbers up to maxSkipped pass.
const (
	maxNumber  = 1<<29 - 1
	maxSkipped = math.MaxInt32
	maxDepth   = 10000 // of groups in groups
)

// input is what is left to read of a message, and the field before it.
type input struct {
	rest   []byte
	key    uint64 // of the field: its number and wire type; 0 at the end
	number uint64 // of a varint field
	value  []byte // of a delimited one; shared with what is read
}

// advance goes to the next field. False: there is none, and what is left is no
// field.
func (in *input) advance() (ok bool) {
	in.key = 0
	if len(in.rest) == 0 {
		return true
	}
	key, ok := in.uvarint()
	if number := key >> 3; !ok || number == 0 || number > maxNumber {
		return false
	}
	switch key & 7 {
	case varint:
		in.number, ok = in.uvarint()
	case delimited:
		in.value, ok = in.delimited()
	default:
		ok = in.skip(key, maxDepth)
	}
	if ok {
		in.key = key
	}
	return ok
}

func (in *input) uvarint() (v uint64, ok bool) {
	v, n := binary.Uvarint(in.rest)
	if n <= 0 {
		return 0, false
	}
	in.rest = in.rest[n:]
	return v, true
}

func (in *input) delimited() (value []byte, ok bool) {
	length, ok := in.uvarint()
	if !ok || length > uint64(len(in.rest)) {
		return nil, false
	}
	value, in.rest = in.rest[:length], in.rest[length:]
	return value, true
}

// skip skips the value of a field, a group with all that it holds.
func (in *input) skip(key uint64, depth int) (ok bool) {
	switch key & 7 {
	case varint:
		_, ok = in.uvarint()
	case delimited:
		_, ok = in.delimited()
	case fixed64:
		ok = in.drop(8)
	case fixed32:
		ok = in.drop(4)
	case groupStart:
		ok = in.skipGroup(key>>3, depth)
	}
	return ok
}

func (in *input) drop(n int) bool {
	if len(in.rest) < n {
		return false
	}
	in.rest = in.rest[n:]
	return true
}

func (in *input) skipGroup(number uint64, depth int) bool {
	if depth < 0 {
		return false
	}
	for {
		key, ok := in.uvarint()
		if inner := key >> 3; !ok || inner == 0 || inner > maxSkipped {
			return false
		}
		if key&7 == groupEnd {
			return key>>3 == number
		}
		if !in.skip(key, depth-1) {
			return false
		}
	}
}
