//go:build usher_portable

package claim

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestUnreadIsNotTaken: a claim is taken by the other side when there is nothing to read, not
// when nobody could be asked.
func TestUnreadIsNotTaken(t *testing.T) {
	for err, want := range map[error]error{nil: unix.EAGAIN, unix.EAGAIN: unix.EINTR, unix.EINTR: unix.EINTR, unix.EBADF: unix.EBADF} {
		if got := unread(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}
