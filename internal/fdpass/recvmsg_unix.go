//go:build unix && !linux

package fdpass

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// recvmsg sets close-on-exec right after the receipt; the fork lock keeps a
// child of this process from being born in between.
func recvmsg(sock int, buf, control []byte) (n, cn, flags int, from unix.Sockaddr, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	n, cn, flags, from, err = unix.Recvmsg(sock, buf, control, unix.MSG_DONTWAIT)
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
