//go:build unix && !linux

package fdpass

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// recvmsg sets close-on-exec right after the receipt; the fork lock keeps a
// child of this process from being born in between.
func recvmsg(sock int, buf, control []byte) (n, cn, flags int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	n, cn, flags, _, err = unix.Recvmsg(sock, buf, control, unix.MSG_DONTWAIT)
	if err != nil || cn == 0 {
		return
	}
	msgs, parseErr := unix.ParseSocketControlMessage(control[:cn])
	if parseErr != nil {
		return
	}
	for i := range msgs {
		fds, _ := unix.ParseUnixRights(&msgs[i])
		for _, fd := range fds {
			unix.CloseOnExec(fd)
		}
	}
	return
}

func sendmsg(sock int, data, control []byte) (int, error) {
	for {
		n, err := unix.SendmsgN(sock, data, control, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return n, err
		}
	}
}

func peerFamily(fd int) (uint16, error) {
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return 0, err
	}
	if _, ok := peer.(*unix.SockaddrUnix); ok {
		return unix.AF_UNIX, nil
	}
	return unix.AF_UNSPEC, nil
}

func socketType(fd int) (int, error) { return unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE) }

func closeFD(fd int) { _ = unix.Close(fd) }
