//go:build linux && !usher_portable

package sock

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// PeerPidfd returns a pidfd of the process at the other end of socket c, which it borrows
// (SO_PEERPIDFD, Linux 6.5). The errors are the system's: EINVAL and ESRCH say that the
// process has gone, ENOPROTOOPT that the kernel is older.
func PeerPidfd(c syscall.Conn) (pidfd *FD, err error) {
	err = withFD(c, func(fd int) error {
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
		if err != nil {
			return err
		}
		unix.CloseOnExec(n) // the kernel set it already; this states what must hold
		pidfd = Own(n)
		return nil
	})
	return pidfd, err
}
