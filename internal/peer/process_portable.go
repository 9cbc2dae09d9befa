//go:build (unix && (!linux || usher_portable)) || windows

package peer

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/seed-7265657e/usher/internal/sock"
)

// TrustedPID answers 0: a socket keeps the pid of a connector that has gone, and nothing
// tells on this system.
func TrustedPID(syscall.Conn) int { return 0 }

// OpenProcess returns a handle on the process at the other end of socket c. The caller
// closes it. That its pid has not been recycled since the connect shows in the connection,
// which its owner keeps open until it is answered.
func OpenProcess(c syscall.Conn) (*Process, error) {
	cred, err := sock.PeerOf(c)
	if err != nil {
		return nil, err
	}
	if cred.PID <= 0 {
		return nil, errors.New("open peer process: this system does not tell its pid")
	}
	return OpenPID(cred.PID)
}

// OpenPID returns a handle on the process that has pid now. Errors: syscall.ESRCH says that
// there is none.
func OpenPID(pid int) (*Process, error) {
	h, err := openHandle(pid)
	return newProcess(pid, h, err)
}

// Resume makes a Process of what Share has returned, in whatever process. It owns fd. The error
// is errors.ErrUnsupported where no handle is passed on.
func Resume(fd *sock.FD) (*Process, error) {
	defer fd.Close()
	pid, h, err := resumeHandle(fd)
	if err != nil {
		return nil, fmt.Errorf("resume process: %w", err)
	}
	return newProcess(pid, h, nil)
}

// Means says how processes are held on to here.
func Means() string {
	p, err := OpenPID(os.Getpid())
	if err != nil {
		return "none"
	}
	p.Close()
	return handles
}

// Lacks names what Linux has for this package and this system has not, for people.
func Lacks() []string {
	if _, err := executableOf(os.Getpid()); errors.Is(err, errors.ErrUnsupported) {
		return []string{"knowing what another process runs (no own builds; backends that register by themselves are reached where they listen)"}
	}
	return nil
}

// Executable returns the path of the file that the process runs, as the kernel remembers
// it, twice: no link opens that very file on this system. What was read at the path counts
// when Confirm says so afterwards.
func (p *Process) Executable() (path, link string, err error) {
	if path, err = executableOf(p.pid); err != nil {
		return "", "", fmt.Errorf("executable of process %d: %w", p.pid, err)
	}
	return path, path, nil
}

// stillRuns is nil while path leads to what the process runs: the kernel has another name
// for a file that was replaced or removed, or none, or says of which build it is.
func (p *Process) stillRuns(path string) error {
	now, err := executableOf(p.pid)
	if err != nil {
		return err
	}
	if now != path {
		return fmt.Errorf("what process %d runs is %s by now", p.pid, now)
	}
	return checkBuild(p.pid, path)
}
