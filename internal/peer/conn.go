package peer

import "syscall"

// lender lends its descriptor without the way through a function.
type lender interface {
	Borrow() (fd int, ok bool)
	Return()
}

// OfConn returns the credentials of the process at the other end of c, which it
// borrows. It opens no descriptor. Errors: those of Of, and of a closed c.
func OfConn(c syscall.Conn) (Credentials, error) {
	if l, ok := c.(lender); ok {
		if fd, ok := l.Borrow(); ok {
			defer l.Return()
			return Of(fd)
		}
	}
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
