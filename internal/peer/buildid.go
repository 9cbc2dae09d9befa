//go:build darwin || usher_portable

package peer

import (
	"encoding/binary"
	"errors"
	"io"
)

// buildID is the UUID that a linker gives to what it makes; zero where it gave none.
type buildID [16]byte

var errNoExecutable = errors.New("it is no Mach-O file")

const (
	mostArchitectures = 64
	mostCommands      = 1 << 20 // bytes
)

// buildIDs are those of a Mach-O file, one for each architecture in it (mach-o/loader.h and
// mach-o/fat.h).
func buildIDs(f io.ReaderAt) (ids []buildID, err error) {
	const fat, fat64 = 0xcafebabe, 0xcafebabf
	head, err := readAt(f, 0, 8)
	if err != nil {
		return nil, err
	}
	entry := 20 // bytes
	switch binary.BigEndian.Uint32(head) {
	case fat:
	case fat64:
		entry = 32
	default:
		id, err := thinID(f, 0)
		return []buildID{id}, err
	}
	n := binary.BigEndian.Uint32(head[4:])
	if n > mostArchitectures {
		return nil, errNoExecutable
	}
	table, err := readAt(f, 8, int(n)*entry)
	if err != nil {
		return nil, err
	}
	for ; len(table) > 0; table = table[entry:] {
		at := uint64(binary.BigEndian.Uint32(table[8:]))
		if entry == 32 {
			at = binary.BigEndian.Uint64(table[8:])
		}
		if id, err := thinID(f, int64(at)); err == nil { // else nothing that runs by now, as of 32 bits
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// thinID is the buildID of the 64-bit image that begins at at.
func thinID(f io.ReaderAt, at int64) (id buildID, err error) {
	const magic, size, uuid = 0xfeedfacf, 32, 0x1b
	head, err := readAt(f, at, size)
	if err != nil {
		return id, err
	}
	length := binary.LittleEndian.Uint32(head[20:])
	if binary.LittleEndian.Uint32(head) != magic || length > mostCommands {
		return id, errNoExecutable
	}
	commands, err := readAt(f, at+size, int(length))
	for err == nil && len(commands) >= 8 {
		n := int(binary.LittleEndian.Uint32(commands[4:]))
		switch {
		case n < 8 || n > len(commands):
			return id, errNoExecutable
		case binary.LittleEndian.Uint32(commands) == uuid && n >= 8+len(id):
			return buildID(commands[8 : 8+len(id)]), nil
		}
		commands = commands[n:]
	}
	return id, err
}

func readAt(f io.ReaderAt, at int64, n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := f.ReadAt(b, at); err != nil {
		return nil, errors.Join(errNoExecutable, err)
	}
	return b, nil
}
