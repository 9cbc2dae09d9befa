package endpoint

import (
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

// privateDACL grants the owner and the system everything and nobody else
// anything, for the directory and what is created below it (spec 03 §2).
const privateDACL = "D:P(A;OICI;FA;;;OW)(A;OICI;FA;;;SY)"

// CheckPrivate reports whether dir carries exactly the private access list.
// A missing directory is an error that is fs.ErrNotExist.
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
	if got := sd.String(); got != privateDACL {
		return &InsecureDirError{
			Path: dir, Reason: fmt.Sprintf("has access list %s instead of %s", got, privateDACL),
			Fix: "look at what is inside, then install a service definition, which sets the list",
		}
	}
	return nil
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
