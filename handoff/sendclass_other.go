//go:build !unix

package handoff

import (
	"errors"
	"io/fs"
	"syscall"
)

// The table of spec 02 §5 is about Unix; elsewhere only a refusal stands out.

func sendErrnoClass(errno syscall.Errno) SendClass {
	if errors.Is(errno, fs.ErrPermission) {
		return SendPermissionDenied
	}
	return SendFailed
}

func connectErrnoClass(errno syscall.Errno) SendClass {
	if errors.Is(errno, fs.ErrPermission) {
		return SendPermissionDenied
	}
	return SendBackendUnavailable
}
