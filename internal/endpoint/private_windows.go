package endpoint

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// privateDACL grants the owner and the system everything and nobody else
// anything, for the directory and what is created below it (spec 03 §2). What is read may
// name the user instead, as a list that was inherited from a home directory does.
const privateDACL = "D:P(A;OICI;FA;;;OW)(A;OICI;FA;;;SY)"

// CheckPrivate reports whether the access list of dir lets nobody in but its owner, this
// user and the system. A missing directory is an error that is fs.ErrNotExist.
// Errors: *InsecureDirError.
func CheckPrivate(dir string) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return &InsecureDirError{Path: dir, Reason: "is not a directory", Fix: "move it away or name another directory"}
	}
	sd, err := windows.GetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("access list of %s: %w", dir, err)
	}
	private, err := letsNobodyElseIn(sd)
	if err != nil {
		return fmt.Errorf("access list of %s: %w", dir, err)
	}
	if !private {
		return &InsecureDirError{
			Path: dir, Reason: fmt.Sprintf("has access list %s, which lets others in, instead of %s", sd, privateDACL),
			Fix: "look at what is inside, then install a service definition, which sets the list",
		}
	}
	return nil
}

func letsNobodyElseIn(sd *windows.SECURITY_DESCRIPTOR) (bool, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return false, err
	}
	list, _, err := sd.DACL()
	if err != nil {
		return false, err
	}
	if list == nil { // everybody
		return false, nil
	}
	for i := range uint32(list.AceCount) {
		var entry *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(list, i, &entry); err != nil {
			return false, err
		}
		who := (*windows.SID)(unsafe.Pointer(&entry.SidStart))
		switch {
		case entry.Header.AceType == windows.ACCESS_DENIED_ACE_TYPE:
		case entry.Header.AceType != windows.ACCESS_ALLOWED_ACE_TYPE: // whose SID stands elsewhere
			return false, nil
		case who.Equals(user.User.Sid), who.IsWellKnown(windows.WinCreatorOwnerRightsSid), who.IsWellKnown(windows.WinLocalSystemSid):
		default:
			return false, nil
		}
	}
	return true, nil
}

// EnsureState makes the directory of a broker's or a tool's logs with what is missing above
// it. Its access list is that of the one above, which is the user's own.
func EnsureState(dir string) error { return os.MkdirAll(dir, 0o700) }

// EnsurePrivate creates dir with its parents if it is missing, sets the private
// access list and checks the result.
func EnsurePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if CheckPrivate(dir) == nil {
		return nil
	}
	sd, err := windows.SecurityDescriptorFromString(privateDACL)
	if err != nil {
		return fmt.Errorf("private access list: %w", err)
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		return fmt.Errorf("private access list: %w", err)
	}
	const what = windows.DACL_SECURITY_INFORMATION | windows.PROTECTED_DACL_SECURITY_INFORMATION
	if err := windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, what, nil, nil, dacl, nil); err != nil {
		return fmt.Errorf("access list of %s: %w", dir, err)
	}
	return CheckPrivate(dir)
}
