//go:build !plan9

// Package errno names the errors of system calls that code for every system asks for, and
// that package syscall has not on all of them: Plan 9's errors are texts, and of its own.
package errno

import "syscall"

// Errno is the type of all of them.
type Errno = syscall.Errno

// The errors' names are those of POSIX.
const (
	EAGAIN       = syscall.EAGAIN
	EBADF        = syscall.EBADF
	ECONNREFUSED = syscall.ECONNREFUSED
	ECONNRESET   = syscall.ECONNRESET
	EMSGSIZE     = syscall.EMSGSIZE
	ENFILE       = syscall.ENFILE
	ENOTCONN     = syscall.ENOTCONN
	ENOTSOCK     = syscall.ENOTSOCK
	EPIPE        = syscall.EPIPE
	ESRCH        = syscall.ESRCH
)
