package sock

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// peerOf asks for LOCAL_PEERCRED, which has no pid, and for LOCAL_PEERPID, which is 0 here
// once the peer has gone (xnu, bsd/kern/uipc_usrreq.c).
func peerOf(fd int) (Credentials, error) {
	cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return Credentials{}, fmt.Errorf("read peer credentials: %w", err)
	}
	pid, err := unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
	if err != nil {
		pid = 0
	}
	return Credentials{UID: cred.Uid, PID: pid}, nil
}
