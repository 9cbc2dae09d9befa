//go:build linux && !usher_portable

package splice

import (
	"io"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sizes of a pipe, in bytes: the most that is on its way. It is what a pipe has by default,
// and what it grows to when more than that is there at once.
const (
	pipeSize = 64 << 10
	maxPipe  = 256 << 10
)

type pipe struct{ r, w, size int }

// newPipe is an empty pipe, which whoever has it frees or closes.
func newPipe() (*pipe, error) {
	if p := spare.pipe(); p != nil {
		return p, nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	return &pipe{fds[0], fds[1], pipeSize}, nil
}

// free gives an empty pipe back.
func (p *pipe) free() { give(&spare.pipes, p) }

// grow makes room for more. A user has so much of that; without, it stays as it is.
func (p *pipe) grow() {
	if p.size < maxPipe {
		if size, err := unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, maxPipe); err == nil {
			p.size = size
		}
	}
}

// fill writes all of b, for which there must be room.
func (p *pipe) fill(b []byte) error {
	n, err := call(unix.SYS_WRITE, p.w, b, 0)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

func (p *pipe) close() {
	for _, fd := range []int{p.r, p.w} { // of a pipe it can't block, as splice can't
		_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	}
}

// The calls of this file can't block, so the scheduler is not told of them: else the first one
// of a process that had nothing to do wakes the runtime's monitor.

// move is splice(2), without waiting.
func move(to, from, most int) (n int, err error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(most), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// receive is recv(2), and send is send(2), without waiting.
func receive(fd int, b []byte) (int, error) { return call(unix.SYS_RECVFROM, fd, b, unix.MSG_DONTWAIT) }

func send(fd int, b []byte) (int, error) {
	return call(unix.SYS_SENDTO, fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// call makes a system call of (fd, b, flags).
func call(number uintptr, fd int, b []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(number, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// hungUp reports whether both directions of a socket have ended.
func hungUp(fd int) bool {
	fds := [1]unix.PollFd{{Fd: int32(fd)}}
	var atOnce unix.Timespec
	_, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), 1, uintptr(unsafe.Pointer(&atOnce)), 0, 0, 0)
	return errno == 0 && fds[0].Revents&unix.POLLHUP != 0
}
