//go:build usher_portable

package loop

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestMayPass: a wait that fails for want of memory, or of descriptors, does not end the loop;
// one that can't ever succeed does.
func TestMayPass(t *testing.T) {
	for err, want := range map[error]bool{unix.EINVAL: true, unix.EAGAIN: true, unix.ENOMEM: true, unix.EFAULT: false, unix.EBADF: false} {
		if mayPass(err) != want {
			t.Errorf("%v: not %v", err, want)
		}
	}
}
