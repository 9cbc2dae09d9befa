//go:build linux && !usher_portable

package launch

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
)

// execute is Become.
func execute(path string, args, env []string, conn Connection, as Place) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	if err := sock.SetNonblock(raw, false); err != nil {
		return 0, err
	}
	if as == Inherited {
		env = append(env, fmt.Sprintf("%s=%d", descriptorVariable, firstInherited))
	}
	failed := make(chan error, 1)
	go func() { // whose thread ends with it: nobody else may run there
		runtime.LockOSThread()
		var err error
		if ctlErr := raw.Control(func(fd uintptr) { err = replace(path, args, env, int(fd), as) }); ctlErr != nil {
			err = ctlErr
		}
		failed <- err
	}()
	return 0, <-failed
}

// replace runs on a thread of its own, and gives it a descriptor table of its own first:
// the runtime's poller may have the numbers that the program wants, and would fall over
// what it finds there.
func replace(path string, args, env []string, conn int, as Place) error {
	if err := ownTable(); err != nil {
		return fmt.Errorf("a descriptor table of its own: %w", err)
	}
	for _, n := range as.descriptors() {
		if n == conn {
			if _, err := unix.FcntlInt(uintptr(n), unix.F_SETFD, 0); err != nil {
				return err
			}
		} else if err := unix.Dup3(conn, n, 0); err != nil {
			return fmt.Errorf("descriptor %d: %w", n, err)
		}
	}
	return syscall.Exec(path, args, env)
}

// ownTable ends the sharing of the descriptor table with the process' other threads. The
// second way is for filters that forbid unshare as a whole, as those of containers do; it
// closes what is beyond any table.
func ownTable() error {
	err := unix.Unshare(unix.CLONE_FILES)
	if err == nil {
		return nil
	}
	const none = 1<<31 - 1
	if again := unix.CloseRange(none, none, unix.CLOSE_RANGE_UNSHARE); again != nil {
		return errors.Join(err, again)
	}
	return nil
}
