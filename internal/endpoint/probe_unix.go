//go:build unix

package endpoint

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
)

// probe asks who listens at path: it connects, without waiting, and hangs up.
func probe(path string) (cred sock.Credentials, err error) {
	from, forget := probeAddress(path)
	defer forget()
	c, err := sock.DialFrom(from, path) // an address is a courtesy to the listener
	if err != nil {
		return cred, err
	}
	defer func() { _ = c.Close() }()
	return sock.PeerOf(c)
}

// IsProbe reports whether c, which was accepted, only asked who listens here: it
// has ended, or does so at once, and nothing will come of it.
func IsProbe(c syscall.Conn) (yes bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		addr, err := unix.Getpeername(int(fd))
		from, _ := addr.(*unix.SockaddrUnix)
		yes = err == nil && from != nil && isProbeAddress(from.Name)
	})
	return yes
}
