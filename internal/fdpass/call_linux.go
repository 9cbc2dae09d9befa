package fdpass

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/rawsys"
)

// The calls of this file can't block (MSG_DONTWAIT, or nothing to wait for), so
// they don't tell the scheduler, which would prepare for them to.

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

func closeFD(fd int) { rawsys.Close(fd) }
