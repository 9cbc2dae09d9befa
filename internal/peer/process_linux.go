//go:build linux && !usher_portable

package peer

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/sock/rawsys"
)

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

// Lacks names what Linux has for this package and this system has not, for people.
func Lacks() []string { return nil }

// Executable returns the path of the file that the process runs, as the kernel
// remembers it, and a link that opens that very file even when the path has been
// replaced since. The link is good only while the process lives: what was read
// through it counts when Confirm says so afterwards.
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

// stillRuns is nil: the link leads to the file, not to the path.
func (p *Process) stillRuns(string) error { return nil }
