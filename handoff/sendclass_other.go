//go:build !unix

package handoff

import (
	"errors"
	"io/fs"
	"syscall"
)

// The table of spec 02 §5 is about Unix; these are what package sock says of a pipe.

func sendErrnoClass(errno syscall.Errno) SendClass {
	switch {
	case errors.Is(errno, fs.ErrPermission):
		return SendPermissionDenied
	case errno == syscall.EAGAIN:
		return SendWouldBlock
	case errno == syscall.EPIPE:
		return SendBackendUnavailable
	}
	return SendFailed
}

func connectErrnoClass(errno syscall.Errno) SendClass {
	if errors.Is(errno, fs.ErrPermission) {
		return SendPermissionDenied
	}
	return SendBackendUnavailable
}
