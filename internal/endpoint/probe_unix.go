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
// has ended, or does so at once, and nothing will come of it. On macOS and the BSDs who has
// ended has no name any more; so there it is anybody who has, and has said nothing.
func IsProbe(c syscall.Conn) (yes bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		addr, err := unix.Getpeername(int(fd))
		from, _ := addr.(*unix.SockaddrUnix)
		if err != nil {
			yes = endsUnsaid(int(fd))
		} else {
			yes = from != nil && isProbeAddress(from.Name)
		}
	})
	return yes
}

// endsUnsaid reports whether the end of the stream is all that there is to read.
func endsUnsaid(fd int) bool {
	var first [1]byte
	n, _, err := unix.Recvfrom(fd, first[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return n == 0 && err == nil
}
