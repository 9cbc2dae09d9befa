package launch

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/internal/sock"
)

// FileID is what tells the file at name from every other that is there at the same time.
func FileID(name string, _ fs.FileInfo) ([]byte, error) {
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	h, err := windows.CreateFile(path, 0, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, nil,
		windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer func() { _ = windows.CloseHandle(h) }()
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &info); err != nil {
		return nil, &fs.PathError{Op: "identify", Path: name, Err: err}
	}
	id := binary.LittleEndian.AppendUint32(nil, info.VolumeSerialNumber)
	return binary.LittleEndian.AppendUint64(id, uint64(info.FileIndexHigh)<<32|uint64(info.FileIndexLow)), nil
}

// CloseStray does nothing: a process is started here with the handles alone that are meant
// for it.
func CloseStray(...int) error { return nil }

// Duplicate returns another handle of f, which has the same file open.
func Duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var dup windows.Handle
	ctlErr := raw.Control(func(h uintptr) { dup, err = sock.CopyHandle(windows.Handle(h)) })
	if err = errors.Join(err, ctlErr); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(dup), f.Name()), nil
}

// Lacks names what Linux has for this package and this system has not, for people.
func Lacks() []string { return nil }
