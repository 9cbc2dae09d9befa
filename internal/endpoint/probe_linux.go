package endpoint

import (
	"crypto/rand"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/peer"
)

// probeName begins the address of a socket that only asks who listens. An abstract
// name: it needs no file, and goes with the socket.
const probeName = "@usher-probe-"

// probe asks who listens at path: it connects, without waiting, and hangs up.
func probe(path string) (cred peer.Credentials, err error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return cred, fmt.Errorf("socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	// A courtesy to the listener: refused, the question is asked all the same.
	_ = unix.Bind(fd, &unix.SockaddrUnix{Name: probeName + rand.Text()})
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return cred, fmt.Errorf("connect: %w", err)
	}
	return peer.Of(fd)
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
