package sock

import (
	"errors"
	"syscall"
)

// Credentials are the kernel's word on the process that connected (or, for a
// connection this process dialled, on the one that listens).
type Credentials struct {
	UID uint32
	// PID is 0 where the system cannot tell, and where the process lives in a
	// pid namespace that this one cannot see.
	PID int
	// SID is the user on Windows, in hexadecimal, where UID is OverflowUID; else empty.
	SID string
}

// OverflowUID is what the kernel reports for a user that this user namespace
// cannot name. It is nobody's identity.
const OverflowUID = 65534

// ErrForeignUser says that the peer runs as another user.
var ErrForeignUser = errors.New("peer runs as another user")

// PeerOf returns the credentials of the process at the other end of socket c
// (SO_PEERCRED), which it borrows. The pid is the connector's at the time it connected;
// the process may be gone by now, see peer.OpenProcess. It opens no descriptor. Errors:
// the system's, errors.ErrUnsupported, and those of a closed c.
func PeerOf(c syscall.Conn) (Credentials, error) {
	if l, ok := c.(Lender); ok { // without the way through a function
		if fd, ok := l.borrow(); ok {
			defer l.giveBack()
			return peerOf(fd)
		}
	}
	var cred Credentials
	err := withFD(c, func(fd int) (err error) {
		cred, err = peerOf(fd)
		return err
	})
	return cred, err
}
