//go:build linux && !usher_portable

package splice

import (
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// set is an epoll set that is one descriptor in the runtime's poller.
type set struct {
	fd   int
	file *os.File // owns fd
	raw  syscall.RawConn
}

// newSet is an empty set, which whoever has it frees or closes.
func newSet() (*set, error) {
	if s := spare.set(); s != nil {
		return s, nil
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFL, unix.O_NONBLOCK); errno != 0 { // else os.NewFile keeps it from the poller
		_ = unix.Close(fd)
		return nil, errno
	}
	s := &set{fd: fd, file: os.NewFile(uintptr(fd), "joined connections")}
	s.raw, err = s.file.SyscallConn()
	return s, err
}

// free gives an empty set back.
func (s *set) free() { give(&spare.sets, s) }

func (s *set) close() { _ = s.file.Close() }

// change has the set tell of other events on fd than before; 0 are none.
func (s *set) change(fd int, before, events uint32) error {
	op := unix.EPOLL_CTL_MOD
	switch {
	case events == before:
		return nil
	case before == 0:
		op = unix.EPOLL_CTL_ADD
	case events == 0:
		op = unix.EPOLL_CTL_DEL
	}
	event := unix.EpollEvent{Fd: int32(fd), Events: events}
	if _, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(s.fd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&event)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// await waits until there is something to tell, or interrupt has been called.
func (s *set) await() error {
	var events [4]unix.EpollEvent
	for {
		var errno syscall.Errno
		err := s.raw.Read(func(uintptr) bool {
			var n uintptr
			n, _, errno = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.fd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
			return n > 0 || errno != 0
		})
		switch {
		case err != nil:
			return err
		case errno == 0:
			return nil
		case errno != unix.EINTR:
			return errno
		}
	}
}

// interrupt ends await, for good.
func (s *set) interrupt() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) }
