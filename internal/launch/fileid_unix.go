//go:build unix

package launch

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"syscall"
)

// FileID is what tells the file from every other that is there at the same time. It is read
// from what the system has said of it, fi, where that tells, and else at its name.
func FileID(_ string, fi fs.FileInfo) ([]byte, error) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(st.Dev)), uint64(st.Ino)), nil
}
