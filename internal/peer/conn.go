package peer

import (
	"errors"
	"syscall"
)

// OfConn returns the credentials of the process at the other end of c, which it
// borrows.
func OfConn(c syscall.Conn) (cred Credentials, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Credentials{}, err
	}
	ctlErr := raw.Control(func(fd uintptr) { cred, err = Of(int(fd)) })
	return cred, errors.Join(ctlErr, err)
}
