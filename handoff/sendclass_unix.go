//go:build unix

package handoff

import (
	"runtime"
	"syscall"
)

// sendErrnoClass is the table of spec 02 §5. ETOOMANYREFS passes as soon as
// other descriptors in flight have arrived (spec 02 §15).
func sendErrnoClass(errno syscall.Errno) SendClass {
	switch errno {
	case syscall.EPERM, syscall.EACCES:
		return SendPermissionDenied
	case syscall.EAGAIN, syscall.ENOBUFS, syscall.ETOOMANYREFS:
		return SendWouldBlock
	case syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.ENOTCONN:
		return SendBackendUnavailable
	case syscall.EMSGSIZE:
		if runtime.GOOS == "darwin" {
			return SendWouldBlock
		}
	}
	return SendFailed
}

func connectErrnoClass(errno syscall.Errno) SendClass {
	switch errno {
	case syscall.EPERM, syscall.EACCES:
		return SendPermissionDenied
	case syscall.EAGAIN:
		return SendWouldBlock
	default:
		return SendBackendUnavailable
	}
}
