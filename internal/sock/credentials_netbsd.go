package sock

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	solLocal     = 0 // the level of a Unix socket's own options
	localPeerEID = 3 // LOCAL_PEEREID of sys/un.h
)

// peerOf asks for LOCAL_PEEREID: pid, effective uid and gid (unix(4), struct unpcbid), in a
// value of another option that has room for them.
func peerOf(fd int) (Credentials, error) {
	cred, err := unix.GetsockoptICMPv6Filter(fd, solLocal, localPeerEID)
	if err != nil {
		return Credentials{}, fmt.Errorf("read peer credentials: %w", err)
	}
	return Credentials{UID: cred.Filt[1], PID: int(int32(cred.Filt[0]))}, nil
}
