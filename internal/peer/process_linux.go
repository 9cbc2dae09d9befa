package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/sock/rawsys"
)

// Process is a handle on one process: its pid can't be recycled under it. It is
// safe for concurrent use.
//
// The handle is a pidfd (Linux 5.3). Where the kernel has none, or a filter
// refuses it, it is the process' open stat file, which goes with the process as
// well, but has to be asked again and again whether it has.
type Process struct {
	pid int
	handle

	watch sync.Once     // starts the goroutine that sets err and closes gone
	gone  chan struct{} // closed at exit, or by Close
	err   error         // why gone was closed: nil for exit; read after gone
}

// handle is what the kernel holds on to a process by.
type handle interface {
	// exited reports whether the process has ended; false with an error when
	// that can't be told.
	exited() (bool, error)
	// awaitExit returns nil when the process has ended, os.ErrClosed after close.
	awaitExit() error
	// share returns a descriptor for another process, which the caller owns;
	// errors.ErrUnsupported where none does.
	share() (*sock.FD, error)
	close()
}

// TrustedPID returns the pid of the process at the other end of socket c when
// that process still lives, and 0 when it is gone or the kernel can't say
// (SO_PEERPIDFD, Linux 6.5). SO_PEERCRED alone keeps a dead connector's pid.
func TrustedPID(c syscall.Conn) int {
	p, err := openPeer(c)
	if err != nil {
		return 0
	}
	defer p.Close()
	if !p.Alive() {
		return 0
	}
	return p.pid
}

// OpenProcess returns a handle on the process at the other end of socket c.
// The caller closes it.
func OpenProcess(c syscall.Conn) (*Process, error) {
	p, err := openPeer(c)
	if err == nil || !errors.Is(err, unix.ENOPROTOOPT) && !rawsys.Refused(err) {
		return p, err // EINVAL and ESRCH say that the process has gone
	}
	// Before Linux 6.5. The pid is pinned now; that it has not been recycled
	// since the connect shows in the connection, which its owner keeps open
	// until it is answered.
	cred, err := sock.PeerOf(c)
	if err != nil {
		return nil, err
	}
	if cred.PID <= 0 {
		return nil, errInvisible
	}
	return OpenPID(cred.PID)
}

var errInvisible = errors.New("open peer process: its pid is not visible here (another pid namespace?)")

func openPeer(c syscall.Conn) (*Process, error) {
	fd, err := sock.PeerPidfd(c)
	if err != nil {
		return nil, fmt.Errorf("open peer process: %w", err)
	}
	cred, err := sock.PeerOf(c)
	if err != nil || cred.PID <= 0 {
		fd.Close()
		return nil, errInvisible
	}
	h, err := ownPidfd(cred.PID, fd)
	return newProcess(cred.PID, h, err)
}

// OpenPID returns a handle on the process that has pid now.
func OpenPID(pid int) (*Process, error) {
	var h handle
	n, err := unix.PidfdOpen(pid, 0)
	switch {
	case err == nil:
		h, err = ownPidfd(pid, sock.Own(n))
	case rawsys.Refused(err):
		h, err = openStat(pid)
	}
	return newProcess(pid, h, err)
}

func newProcess(pid int, h handle, err error) (*Process, error) {
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return &Process{pid: pid, handle: h, gone: make(chan struct{})}, nil
}

// Share returns a descriptor from which another process can Resume, which the caller owns.
// The error is errors.ErrUnsupported where processes are held on to otherwise.
func (p *Process) Share() (*sock.FD, error) { return p.share() }

// Means says how processes are held on to here: "pidfd", or "pid and start time".
func Means() string {
	p, err := OpenPID(os.Getpid())
	if err != nil {
		return "none"
	}
	defer p.Close()
	if _, ok := p.handle.(pidfd); ok {
		return "pidfd"
	}
	return "pid and start time"
}

// PID returns the process' id. It names this process only while Alive.
func (p *Process) PID() int { return p.pid }

// Alive reports whether the process has not been seen to end. It is false after
// Close.
func (p *Process) Alive() bool {
	ended, err := p.exited()
	return !ended && !errors.Is(err, os.ErrClosed)
}

// Wait returns nil when the process has exited, ctx's error when ctx ends first,
// and os.ErrClosed after Close. The first Wait starts a goroutine that lives
// until the process exits or Close is called.
func (p *Process) Wait(ctx context.Context) error {
	p.watch.Do(func() {
		go func() {
			defer close(p.gone)
			p.err = p.awaitExit()
		}()
	})
	select {
	case <-p.gone:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Executable returns the path of the file that the process runs, as the kernel
// remembers it, and a link that opens that very file even when the path has been
// replaced since. The link is good only while the process lives: what was read
// through it counts when Alive is true afterwards.
func (p *Process) Executable() (path, link string, err error) {
	link = "/proc/" + strconv.Itoa(p.pid) + "/exe"
	if err = procIsOurs(); err == nil {
		path, err = os.Readlink(link)
	}
	if err != nil {
		return "", "", fmt.Errorf("executable of process %d: %w", p.pid, err)
	}
	return path, link, nil
}

// procIsOurs is nil where the numbers in /proc are those that this process knows others
// by. They are not in a pid namespace that has kept the /proc of the one around it.
var procIsOurs = sync.OnceValue(func() error {
	self, err := os.Readlink("/proc/self")
	if err == nil && self != strconv.Itoa(os.Getpid()) {
		err = errors.New("/proc is that of another pid namespace: mount one of this namespace's own")
	}
	return err
})

// Close closes the handle. A Wait under way returns. It may be called again.
func (p *Process) Close() { p.close() }
