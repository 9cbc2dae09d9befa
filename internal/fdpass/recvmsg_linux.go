package fdpass

import "golang.org/x/sys/unix"

// recvmsg sets close-on-exec atomically with the receipt.
func recvmsg(sock int, buf, control []byte) (n, cn, flags int, from unix.Sockaddr, err error) {
	return unix.Recvmsg(sock, buf, control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
}
