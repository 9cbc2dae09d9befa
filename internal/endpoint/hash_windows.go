package endpoint

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

func userHashInput() (string, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return "", fmt.Errorf("user SID of the process token: %w", err)
	}
	sid := user.User.Sid
	raw := unsafe.Slice((*byte)(unsafe.Pointer(sid)), sid.Len())
	return windowsHashInput(raw), nil
}
