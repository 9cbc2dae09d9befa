package usage

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// systemHandle is a SYSTEM_HANDLE_TABLE_ENTRY_INFO_EX.
type systemHandle struct {
	_       uintptr // the object
	process uintptr
	handle  uintptr
	_       uint32 // what it may do
	_       [2]uint16
	_       [2]uint32
}

// Handles are what a process has open, what its runtime's threads have included. It asks for
// the list of all: Wine 8.0 says 0 to who asks for the number.
func Handles(pid int) (open []windows.Handle, err error) {
	list := make([]uintptr, 1<<17)
	for {
		size := uint32(len(list)) * uint32(unsafe.Sizeof(list[0]))
		err := windows.NtQuerySystemInformation(windows.SystemExtendedHandleInformation, unsafe.Pointer(&list[0]), size, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, windows.STATUS_INFO_LENGTH_MISMATCH) {
			return nil, fmt.Errorf("list the handles of process %d: %w", pid, err)
		}
		list = make([]uintptr, 2*len(list))
	}
	const head = 2 // how many, and a reserved word
	for _, h := range unsafe.Slice((*systemHandle)(unsafe.Pointer(&list[head])), list[0]) {
		if h.process == uintptr(pid) {
			open = append(open, windows.Handle(h.handle))
		}
	}
	return open, nil
}
