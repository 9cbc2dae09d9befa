// Package rawsys makes system calls that can't block without telling Go's
// scheduler, which would prepare for them to: the first such call of an idle
// process wakes its monitor thread, which then looks at everything each 20 µs.
// That costs as much as half a handoff.
//
// Only calls that return at once belong here. A descriptor is the caller's. A
// leaf: it imports nothing of usher.
package rawsys

import (
	"errors"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Refused reports whether a system call failed because this kernel doesn't know it,
// or a filter (seccomp) forbids it. Asked only of calls that fail so for no other
// reason.
func Refused(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}

// Close closes fd, which is no file on a disk.
func Close(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// GetsockoptInt asks for an option that is a number.
func GetsockoptInt(fd, level, option int) (int, error) {
	var value int32
	err := getsockopt(fd, level, option, unsafe.Pointer(&value), unsafe.Sizeof(value))
	return int(value), err
}

// PeerCred asks who connected (SO_PEERCRED).
func PeerCred(fd int) (cred unix.Ucred, err error) {
	err = getsockopt(fd, unix.SOL_SOCKET, unix.SO_PEERCRED, unsafe.Pointer(&cred), unsafe.Sizeof(cred))
	return cred, err
}

func getsockopt(fd, level, option int, value unsafe.Pointer, size uintptr) error {
	n := uint32(size)
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(value), uintptr(unsafe.Pointer(&n)), 0)
	return asError(errno)
}

// Eventfd makes an eventfd.
func Eventfd(value uint, flags int) (int, error) {
	fd, _, errno := unix.RawSyscall(unix.SYS_EVENTFD2, uintptr(value), uintptr(flags), 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// ReadNow reads from an eventfd or a pipe what is there, whatever mode the
// descriptor is in (preadv2 with RWF_NOWAIT).
func ReadNow(fd int, buf []byte) (int, error) {
	iov := unix.Iovec{Base: &buf[0]}
	iov.SetLen(len(buf))
	const noOffset = ^uintptr(0)
	n, _, errno := unix.RawSyscall6(unix.SYS_PREADV2, uintptr(fd), uintptr(unsafe.Pointer(&iov)), 1, noOffset, noOffset, unix.RWF_NOWAIT)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Read reads from a descriptor that is in non-blocking mode, and no file on a disk.
func Read(fd int, buf []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Write writes to a descriptor that is in non-blocking mode, and no file on a disk.
func Write(fd int, buf []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Readable reports whether fd has something to read, or has ended.
func Readable(fd int) (bool, error) {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	var atOnce unix.Timespec
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), 1, uintptr(unsafe.Pointer(&atOnce)), 0, 0, 0)
	return n > 0 && errno == 0, asError(errno)
}

// ArmTimer has a timerfd of the monotonic clock ring once, in d.
func ArmTimer(fd int, d time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(int64(d), 1))}
	_, _, errno := unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, uintptr(fd), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	return asError(errno)
}

// EpollCtl changes an epoll set.
func EpollCtl(epoll, op, fd int, event *unix.EpollEvent) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(event)), 0, 0)
	return asError(errno)
}

// Stat asks for a file on a file system of this machine, whose answer is in memory
// but for the first time.
func Stat(path string, st *unix.Stat_t) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	_, _, errno := unix.RawSyscall6(sysFstatat, at(unix.AT_FDCWD), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(st)), 0, 0, 0)
	return asError(errno)
}

// at is a directory descriptor as an argument: AT_FDCWD is negative.
func at(dir int) uintptr { return uintptr(dir) }

// Fstat asks about an open descriptor of this machine.
func Fstat(fd int, st *unix.Stat_t) error {
	_, _, errno := unix.RawSyscall(sysFstat, uintptr(fd), uintptr(unsafe.Pointer(st)), 0)
	return asError(errno)
}

// Flags returns a descriptor's status flags (F_GETFL).
func Flags(fd int) (int, error) {
	flags, _, errno := unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_GETFL, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(flags), nil
}

// SetNonblock changes the mode of what fd has open, for every holder.
func SetNonblock(fd int, on bool) error {
	flags, err := Flags(fd)
	if err != nil {
		return err
	}
	next := flags &^ unix.O_NONBLOCK
	if on {
		next |= unix.O_NONBLOCK
	}
	if next == flags {
		return nil
	}
	_, _, errno := unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFL, uintptr(next))
	return asError(errno)
}

// Duplicate returns another descriptor of what fd has open, close-on-exec, with the lowest
// number from least on that is free.
func Duplicate(fd, least int) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_DUPFD_CLOEXEC, uintptr(least))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// Shutdown shuts down directions of a socket, for every holder.
func Shutdown(fd, how int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), uintptr(how), 0)
	return asError(errno)
}

// UnixSocket makes a stream socket, non-blocking and close-on-exec.
func UnixSocket() (int, error) {
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// ConnectUnix connects a non-blocking socket to path: at once, or EAGAIN when the
// listener's queue is full.
func ConnectUnix(fd int, path string) error {
	addr := unix.RawSockaddrUnix{Family: unix.AF_UNIX}
	if len(path) >= len(addr.Path) || path == "" {
		return unix.EINVAL
	}
	for i := range len(path) {
		addr.Path[i] = int8(path[i])
	}
	size := unsafe.Offsetof(addr.Path) + uintptr(len(path))
	if path[0] == '@' { // the abstract namespace
		addr.Path[0] = 0
	} else {
		size++
	}
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&addr)), size)
	return asError(errno)
}

func asError(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
