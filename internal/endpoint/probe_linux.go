//go:build linux && !usher_portable

package endpoint

import (
	"crypto/rand"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
)

// probeName begins the address of a socket that only asks who listens. An abstract
// name: it needs no file, and goes with the socket.
const probeName = "@usher-probe-"

// probe asks who listens at path: it connects, without waiting, and hangs up.
func probe(path string) (cred sock.Credentials, err error) {
	c, err := sock.DialFrom(probeName+rand.Text(), path) // an address is a courtesy to the listener
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
		yes = err == nil && from != nil && strings.HasPrefix(from.Name, probeName)
	})
	return yes
}
