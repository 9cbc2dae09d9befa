//go:build !windows

package sock

import (
	"net"
	"runtime"
)

// Listener accepts from a listening Unix socket without waiting. The socket stays its
// owner's, who keeps it open as long as the Listener is used.
type Listener struct {
	n     int
	owner *net.UnixListener
}

// ListenerOf borrows the socket of l.
func ListenerOf(l *net.UnixListener) (*Listener, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return nil, err
	}
	b := &Listener{owner: l}
	return b, raw.Control(func(fd uintptr) { b.n = int(fd) })
}

// Accept takes a connection from the queue. It never waits: errno.EAGAIN when the
// queue is empty.
func (l *Listener) Accept() (*Conn, error) {
	defer runtime.KeepAlive(l)
	return accept(l.n)
}

// Shutdown has the kernel refuse whoever comes from now on. What is queued can still be
// accepted; then Accept is syscall.EINVAL.
func (l *Listener) Shutdown() error {
	defer runtime.KeepAlive(l)
	return shutdownListener(l.n)
}

func (l *Listener) borrow() (int, bool) { return l.n, true }

func (l *Listener) giveBack() { runtime.KeepAlive(l) }

func (l *Listener) number() int { return l.n }
