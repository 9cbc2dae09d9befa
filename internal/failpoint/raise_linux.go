package failpoint

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Raise sends this process a signal whose effect has come when the call
// returns: it goes to the calling thread, which meets it on its way out of the
// kernel. A signal to the whole process may be taken by another thread while
// this one runs on, past the failpoint.
func Raise(sig syscall.Signal) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return unix.Tgkill(os.Getpid(), unix.Gettid(), sig)
}
