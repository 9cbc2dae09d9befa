//go:build !windows

package sock

import "fmt"

// CheckUser returns nil when the peer runs as user uid, and an error wrapping
// ErrForeignUser otherwise (spec 03 §5).
func (c Credentials) CheckUser(uid int) error {
	if c.UID == OverflowUID {
		return fmt.Errorf("%w (uid %d is what the kernel reports for users it can't name: run both sides in one user namespace, as another user)",
			ErrForeignUser, c.UID)
	}
	if uid < 0 || c.UID != uint32(uid) {
		return fmt.Errorf("%w (uid %d, expected %d)", ErrForeignUser, c.UID, uid)
	}
	return nil
}
