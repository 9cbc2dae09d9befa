//go:build linux && !usher_portable

package endpoint

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// refuseDescriptors has the kernel refuse descriptors that are sent to whoever
// connects to a socket that is about to be bound: the sender gets EPERM (Linux
// 6.16). Before that they are closed by the read that meets them, and one peer
// that sends descriptors which are slow to close stalls everybody. It is made
// before the socket listens, because a connection takes it over as it is made.
func refuseDescriptors(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSRIGHTS, 0) // an older kernel doesn't know it
	})
}

// Lacks names what Linux has for this package and this system has not, for people.
func Lacks() []string { return nil }
