//go:build !unix

package endpoint

import (
	"syscall"

	"github.com/seed-7265657e/usher/internal/sock"
)

// probe asks who listens at path: it connects, without waiting, and hangs up.
func probe(path string) (cred sock.Credentials, err error) {
	c, err := sock.Dial(path)
	if err != nil {
		return cred, err
	}
	defer func() { _ = c.Close() }()
	return sock.PeerOf(c)
}

// IsProbe returns false: nothing tells on this system.
func IsProbe(syscall.Conn) bool { return false }
