package peer

import "syscall"

// OfConn returns the credentials of the process at the other end of c, which it
// borrows. It opens no descriptor. Errors: those of Of, and of a closed c.
func OfConn(c syscall.Conn) (Credentials, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return Credentials{}, err
	}
	var cred Credentials
	if ctlErr := rc.Control(func(fd uintptr) { cred, err = Of(int(fd)) }); ctlErr != nil {
		return Credentials{}, ctlErr
	}
	return cred, err
}
