//go:build linux && !usher_portable

package sock

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock/rawsys"
)

// endsWriter: who shuts down reading has his peer's writing refused.
const endsWriter = true

// modeDecides is false: MSG_DONTWAIT keeps a send from waiting, whatever the socket's mode.
const modeDecides = false

// keepsSent: a descriptor that was sent arrives, whatever becomes of its sender.
const keepsSent = true

// The calls of this file can't block (MSG_DONTWAIT), so they don't tell the
// scheduler, which would prepare for them to.

func recv(fd int, p []byte) (int, error) {
	var base unsafe.Pointer
	if len(p) > 0 {
		base = unsafe.Pointer(&p[0])
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(base), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

func sendParts(fd int, parts [][]byte) (int, error) {
	var iov [maxParts]unix.Iovec
	n := 0
	for _, p := range parts[:min(len(parts), maxParts)] {
		if len(p) > 0 {
			iov[n].Base = &p[0]
			iov[n].SetLen(len(p))
			n++
		}
	}
	if n == 0 {
		return 0, nil
	}
	msg := unix.Msghdr{Iov: &iov[0]}
	msg.SetIovlen(n)
	for {
		sent, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch errno {
		case 0:
			return int(sent), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Dial connects to the Unix socket at path. It never blocks: a full backlog is
// unix.EAGAIN. A Conn that is dropped is closed only once CloseWhenDropped was called.
func Dial(path string) (*Conn, error) { return DialFrom("", path) }

// DialFrom is Dial from an address that the listener sees; the system may refuse that
// address, and is then asked without.
func DialFrom(local, path string) (*Conn, error) {
	fd, err := rawsys.UnixSocket()
	if err != nil {
		return nil, opError("dial", err)
	}
	if local != "" {
		_ = unix.Bind(fd, &unix.SockaddrUnix{Name: local})
	}
	for {
		err = rawsys.ConnectUnix(fd, path)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		rawsys.Close(fd)
		return nil, opError("dial", os.NewSyscallError("connect", err))
	}
	return newConn(fd), nil
}

func accept(listener int) (*Conn, error) {
	for {
		fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			return newConn(int(fd)), nil
		case unix.EINTR:
		default:
			return nil, opError("accept", errno)
		}
	}
}

func shutdown(fd, how int) error { return rawsys.Shutdown(fd, how) }

func closeFD(fd int) { rawsys.Close(fd) }

func setNonblock(fd int, on bool) error { return rawsys.SetNonblock(fd, on) }

func duplicateNumber(fd int) (int, error) { return rawsys.Duplicate(fd, 0) }

func sendmsg(sock int, data, control []byte) (int, error) {
	iov := vector(data)
	msg := unix.Msghdr{Iov: &iov}
	msg.SetIovlen(1)
	if len(control) > 0 {
		msg.Control = &control[0]
		msg.SetControllen(len(control))
	}
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(sock), uintptr(unsafe.Pointer(&msg)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// recvmsg sets close-on-exec atomically with the receipt.
func recvmsg(sock int, buf, control []byte) (n, cn, flags int, err error) {
	iov := vector(buf)
	msg := unix.Msghdr{Iov: &iov, Control: &control[0]}
	msg.SetIovlen(1)
	msg.SetControllen(len(control))
	r, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(sock), uintptr(unsafe.Pointer(&msg)), unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if errno != 0 {
		return 0, 0, 0, errno
	}
	return int(r), int(msg.Controllen), int(msg.Flags), nil
}

func vector(data []byte) (v unix.Iovec) {
	if len(data) > 0 {
		v.Base = &data[0]
		v.SetLen(len(data))
	}
	return v
}

func peerFamily(fd int) (uint16, error) {
	var addr unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	_, _, errno := unix.RawSyscall(unix.SYS_GETPEERNAME, uintptr(fd), uintptr(unsafe.Pointer(&addr)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0, errno
	}
	return addr.Addr.Family, nil
}

func socketType(fd int) (int, error) { return rawsys.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE) }
