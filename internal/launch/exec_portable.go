//go:build unix && (!linux || usher_portable)

package launch

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
)

// execute is Become for standard input and output. Descriptor 3 may be the one that the
// runtime waits with, and here no thread can have a table of its own.
func execute(path string, args, env []string, conn Connection, as Place) (int, error) {
	if as != Stdio {
		return 0, fmt.Errorf("become another program with its connection as descriptor %d: %w on this system", firstInherited, errors.ErrUnsupported)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	if err := sock.SetNonblock(raw, false); err != nil {
		return 0, err
	}
	ctlErr := raw.Control(func(fd uintptr) { err = replace(path, args, env, int(fd)) })
	return 0, errors.Join(ctlErr, err)
}

// replace returns after an error only, and then the standard descriptors are what they were.
func replace(path string, args, env []string, conn int) error {
	for _, n := range Stdio.descriptors() {
		old, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, firstInherited)
		if err != nil {
			return fmt.Errorf("descriptor %d: %w", n, err)
		}
		defer func() {
			_ = unix.Dup2(old, n)
			_ = unix.Close(old)
		}()
		if err := unix.Dup2(conn, n); err != nil {
			return fmt.Errorf("descriptor %d: %w", n, err)
		}
	}
	return syscall.Exec(path, args, env)
}
