package sock

import (
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// CheckUser returns nil when the peer runs as this process' user, by the SIDs of their
// tokens, and an error wrapping ErrForeignUser otherwise (spec 03 §5). Users have no number
// on this system.
func (c Credentials) CheckUser(int) error {
	own, err := ownSID()
	if err != nil {
		return err
	}
	if c.SID != own {
		return fmt.Errorf("%w (windows-sid:%s)", ErrForeignUser, c.SID)
	}
	return nil
}

// ownSID is the SID of this process' user, in hexadecimal.
var ownSID = sync.OnceValues(func() (string, error) { return userOf(windows.GetCurrentProcessToken()) })

func userOf(token windows.Token) (string, error) {
	user, err := token.GetTokenUser()
	if err != nil {
		return "", fmt.Errorf("user of a process: %w", err)
	}
	sid := user.User.Sid
	return hex.EncodeToString(unsafe.Slice((*byte)(unsafe.Pointer(sid)), sid.Len())), nil
}

// peerOf asks the token of the process at the other end. One that has gone is nobody: ESRCH.
func peerOf(fd int) (Credentials, error) {
	pid, err := otherEnd(fd)
	if err != nil {
		return Credentials{}, fmt.Errorf("identify the peer process: %w", err)
	}
	return credentialsOf(pid)
}

func credentialsOf(pid uint32) (Credentials, error) {
	process, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if errors.Is(err, windows.ERROR_INVALID_PARAMETER) { // its word for no such process
		err = syscall.ESRCH
	}
	if err != nil {
		return Credentials{}, fmt.Errorf("identify peer process %d: %w", pid, err)
	}
	defer func() { _ = windows.CloseHandle(process) }()
	var token windows.Token
	if err := windows.OpenProcessToken(process, windows.TOKEN_QUERY, &token); err != nil {
		return Credentials{}, fmt.Errorf("user of peer process %d: %w", pid, err)
	}
	defer func() { _ = token.Close() }()
	sid, err := userOf(token)
	return Credentials{UID: OverflowUID, PID: int(pid), SID: sid}, err
}
