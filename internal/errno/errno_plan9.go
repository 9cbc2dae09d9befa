// Package errno names errors that this system does not have: a comparison with one of them
// is false, and what uses them in earnest is unsupported here.
package errno

import "syscall"

// Errno is the type of all of them.
type Errno = syscall.ErrorString

const (
	EAGAIN       = syscall.ErrorString("try again")
	EBADF        = syscall.ErrorString("bad descriptor")
	ECONNREFUSED = syscall.ErrorString("connection refused")
	ECONNRESET   = syscall.ErrorString("connection reset")
	EMSGSIZE     = syscall.ErrorString("message too long")
	ENFILE       = syscall.ErrorString("too many open files")
	ENOTCONN     = syscall.ErrorString("not connected")
	ENOTSOCK     = syscall.ErrorString("not a socket")
	EPIPE        = syscall.ErrorString("broken pipe")
	ESRCH        = syscall.ErrorString("no such process")
	ETOOMANYREFS = syscall.ErrorString("too many descriptors in flight")
)
