//go:build usher_portable

package peer

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"testing"
)

// machO is a Mach-O image of a build, with a command before the one that names it; nameless
// for the zero one.
func machO(id buildID) []byte {
	commands := binary.LittleEndian.AppendUint32(nil, 0x32) // LC_BUILD_VERSION
	commands = binary.LittleEndian.AppendUint32(commands, 24)
	commands = append(commands, make([]byte, 16)...)
	if id != (buildID{}) {
		commands = binary.LittleEndian.AppendUint32(commands, 0x1b) // LC_UUID
		commands = binary.LittleEndian.AppendUint32(commands, 24)
		commands = append(commands, id[:]...)
	}
	head := make([]byte, 32)
	binary.LittleEndian.PutUint32(head, 0xfeedfacf)
	binary.LittleEndian.PutUint32(head[20:], uint32(len(commands)))
	return append(head, commands...)
}

// fatOf is one file of two images.
func fatOf(a, b []byte) []byte {
	file := binary.BigEndian.AppendUint32(nil, 0xcafebabe)
	file = binary.BigEndian.AppendUint32(file, 2)
	at := 8 + 2*20
	for _, image := range [][]byte{a, b} {
		entry := make([]byte, 20)
		binary.BigEndian.PutUint32(entry[8:], uint32(at))
		binary.BigEndian.PutUint32(entry[12:], uint32(len(image)))
		file = append(file, entry...)
		at += len(image)
	}
	return slices.Concat(file, a, b)
}

// bounded is a file that is not read in pieces of any size that it names.
type bounded struct {
	t *testing.T
	io.ReaderAt
}

func (b bounded) ReadAt(p []byte, at int64) (int, error) {
	if len(p) > mostCommands {
		b.t.Errorf("%d bytes are asked for at once", len(p))
	}
	return b.ReaderAt.ReadAt(p, at)
}

// TestBuildIDs reads what macOS' linkers write, which is compared there with what the kernel
// says that a process runs.
func TestBuildIDs(t *testing.T) {
	one, two, none := buildID{1, 15: 2}, buildID{3, 15: 4}, buildID{}
	broken := machO(one)
	binary.LittleEndian.PutUint32(broken[36:], 0) // a command of no length
	endless := machO(one)
	binary.LittleEndian.PutUint32(endless[20:], 1<<31)
	for _, c := range []struct {
		name string
		file []byte
		want []buildID
	}{
		{"one", machO(one), []buildID{one}},
		{"nameless", machO(none), []buildID{none}},
		{"two architectures", fatOf(machO(one), machO(two)), []buildID{one, two}},
		{"two, one of 32 bits", fatOf(append([]byte{0xce}, machO(one)[1:]...), machO(two)), []buildID{two}},
		{"cut", machO(one)[:40], nil},
		{"empty", nil, nil},
		{"a script", []byte("#!/bin/sh\nexec something else\n# and more\n"), nil},
		{"broken", broken, nil},
		{"endless", endless, nil},
		{"of many architectures", append([]byte{0xca, 0xfe, 0xba, 0xbe, 0xff, 0xff, 0xff, 0xff}, make([]byte, 100)...), nil},
	} {
		got, err := buildIDs(bounded{t, bytes.NewReader(c.file)})
		if (err != nil) != (c.want == nil) || err == nil && !slices.Equal(got, c.want) {
			t.Errorf("%s: %x, %v; want %x", c.name, got, err, c.want)
		}
	}
}
