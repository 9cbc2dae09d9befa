//go:build !unix

package handoff

import (
	"errors"
	"io/fs"

	"github.com/seed-7265657e/usher/internal/errno"
)

// The table of spec 02 §5 is about Unix; these are what package sock says of a pipe.

func sendErrnoClass(number errno.Errno) SendClass {
	switch {
	case errors.Is(number, fs.ErrPermission):
		return SendPermissionDenied
	case number == errno.EAGAIN:
		return SendWouldBlock
	case number == errno.EPIPE:
		return SendBackendUnavailable
	}
	return SendFailed
}

func connectErrnoClass(number errno.Errno) SendClass {
	if errors.Is(number, fs.ErrPermission) {
		return SendPermissionDenied
	}
	return SendBackendUnavailable
}
