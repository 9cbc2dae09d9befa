package sock

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock/rawsys"
)

func peerOf(fd int) (Credentials, error) {
	cred, err := rawsys.PeerCred(fd)
	if err != nil {
		return Credentials{}, fmt.Errorf("read peer credentials: %w", err)
	}
	return Credentials{UID: cred.Uid, PID: int(cred.Pid)}, nil
}

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
