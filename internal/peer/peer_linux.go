package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/rawsys"
)

// Of returns the credentials of the process at the other end of socket fd
// (SO_PEERCRED). The pid is the connector's at the time it connected; the
// process may be gone by now, see OpenProcess.
func Of(fd int) (Credentials, error) {
	cred, err := rawsys.PeerCred(fd)
	if err != nil {
		return Credentials{}, fmt.Errorf("read peer credentials: %w", err)
	}
	return Credentials{UID: cred.Uid, PID: int(cred.Pid)}, nil
}

// TrustedPID returns the pid of the process at the other end of socket fd when
// that process still lives, and 0 when it is gone or the kernel can't say
// (SO_PEERPIDFD, Linux 6.5). SO_PEERCRED alone keeps a dead connector's pid.
func TrustedPID(fd int) int {
	p, err := openPeer(fd)
	if err != nil {
		return 0
	}
	defer p.Close()
	if !p.Alive() {
		return 0
	}
	return p.pid
}

// Process is a handle on one process: its pid can't be recycled under it. It is
// safe for concurrent use.
type Process struct {
	pid   int
	pidfd *os.File

	watch sync.Once     // starts the goroutine that sets err and closes gone
	gone  chan struct{} // closed at exit, or by Close
	err   error         // why gone was closed: nil for exit; read after gone
}

// OpenProcess returns a handle on the process at the other end of socket fd.
// The caller closes it.
func OpenProcess(fd int) (*Process, error) {
	p, err := openPeer(fd)
	if err == nil || !errors.Is(err, unix.ENOPROTOOPT) {
		return p, err
	}
	// Before Linux 6.5. The pid is pinned now; that it has not been recycled
	// since the connect shows in the connection, which its owner keeps open
	// until it is answered.
	cred, err := Of(fd)
	if err != nil {
		return nil, err
	}
	return OpenPID(cred.PID)
}

func openPeer(fd int) (*Process, error) {
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err != nil {
		return nil, fmt.Errorf("open peer process: %w", err)
	}
	unix.CloseOnExec(pidfd) // the kernel set it already; this states what must hold
	cred, err := Of(fd)
	if err != nil || cred.PID <= 0 {
		_ = unix.Close(pidfd)
		return nil, fmt.Errorf("open peer process: its pid is not visible here (another pid namespace?)")
	}
	return newProcess(cred.PID, pidfd)
}

// OpenPID returns a handle on the process that has pid now.
func OpenPID(pid int) (*Process, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return newProcess(pid, pidfd)
}

func newProcess(pid, pidfd int) (*Process, error) {
	// Non-blocking, so that the runtime polls it instead of parking a thread.
	if err := unix.SetNonblock(pidfd, true); err != nil {
		_ = unix.Close(pidfd)
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	return &Process{
		pid:   pid,
		pidfd: os.NewFile(uintptr(pidfd), "pidfd:"+strconv.Itoa(pid)),
		gone:  make(chan struct{}),
	}, nil
}

// PID returns the process' id. It names this process only while Alive.
func (p *Process) PID() int { return p.pid }

// Alive reports whether the process has not exited.
func (p *Process) Alive() bool {
	alive := false
	rc, err := p.pidfd.SyscallConn()
	if err != nil {
		return false
	}
	_ = rc.Control(func(fd uintptr) { alive = !exited(int(fd)) })
	return alive
}

// Wait returns nil when the process has exited, ctx's error when ctx ends first,
// and os.ErrClosed after Close. The first Wait starts a goroutine that lives
// until the process exits or Close is called.
func (p *Process) Wait(ctx context.Context) error {
	p.watch.Do(func() { go p.awaitExit() })
	select {
	case <-p.gone:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Process) awaitExit() {
	defer close(p.gone)
	rc, err := p.pidfd.SyscallConn()
	if err == nil {
		err = rc.Read(func(fd uintptr) bool { return exited(int(fd)) })
	}
	if err != nil {
		p.err = os.ErrClosed // a handle that is open can be waited for
	}
}

func exited(pidfd int) bool {
	ended, err := rawsys.Readable(pidfd)
	return ended && err == nil
}

// Executable returns the path of the file that the process runs, as the kernel
// remembers it, and a link that opens that very file even when the path has been
// replaced since. The link is good only while the process lives: what was read
// through it counts when Alive is true afterwards.
func (p *Process) Executable() (path, link string, err error) {
	link = "/proc/" + strconv.Itoa(p.pid) + "/exe"
	path, err = os.Readlink(link)
	if err != nil {
		return "", "", fmt.Errorf("executable of process %d: %w", p.pid, err)
	}
	return path, link, nil
}

// Close closes the handle. A Wait under way returns. It may be called again.
func (p *Process) Close() { _ = p.pidfd.Close() }
