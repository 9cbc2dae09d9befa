//go:build unix

package launch

import (
	"encoding/binary"
	"io/fs"
	"syscall"
)

// FileID is what tells the file from every other that is there at the same time.
func FileID(fi fs.FileInfo) []byte {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(st.Dev)), uint64(st.Ino))
}
