// Package peer tells who is at the other end of a Unix connection, and holds on
// to a process so that its pid can't come to mean a stranger.
//
// A leaf: of usher it imports rawsys alone. A Process owns its handle and is closed
// by whoever opened it; sockets are borrowed.
package peer

import (
	"errors"
	"fmt"
)

// Credentials are the kernel's word on the process that connected (or, for a
// connection this process dialled, on the one that listens).
type Credentials struct {
	UID uint32
	// PID is 0 where the system cannot tell, and where the process lives in a
	// pid namespace that this one cannot see.
	PID int
}

// OverflowUID is what the kernel reports for a user that this user namespace
// cannot name. It is nobody's identity.
const OverflowUID = 65534

// ErrForeignUser says that the peer runs as another user.
var ErrForeignUser = errors.New("peer runs as another user")

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
