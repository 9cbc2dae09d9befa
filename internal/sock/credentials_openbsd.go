package sock

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// peerOf asks for SO_PEERCRED: uid, gid and pid (getsockopt(2), struct sockpeercred), in a
// value of another option that has room for them.
func peerOf(fd int) (Credentials, error) {
	cred, err := unix.GetsockoptICMPv6Filter(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Credentials{}, fmt.Errorf("read peer credentials: %w", err)
	}
	return Credentials{UID: cred.Filt[0], PID: int(int32(cred.Filt[2]))}, nil
}
