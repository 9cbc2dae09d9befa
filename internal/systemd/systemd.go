// Package systemd speaks with the service manager that started this process: it takes the
// sockets that were passed (sd_listen_fds(3)), and says how the process fares and what is
// to be kept for the next one (sd_notify(3)). The protocols are a few variables and lines
// of text; other service managers speak them too.
//
// A leaf: of usher it imports sock alone. Each function takes its variables out of the
// environment, so that no child believes it was meant.
package systemd

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/sock"
)

// Socket is a descriptor that was passed, and the name that the manager gives it.
type Socket struct {
	Name string
	File *os.File
}

// maxPassed bounds what a variable can make of this process' descriptors.
const maxPassed = 1024

// Sockets returns what was passed to this process, in the manager's order; nothing where
// the variables are not there or meant for another process. The caller owns the files.
func Sockets() ([]Socket, error) {
	pid, count, names := take("LISTEN_PID"), take("LISTEN_FDS"), strings.Split(take("LISTEN_FDNAMES"), ":")
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxPassed {
		return nil, fmt.Errorf("LISTEN_FDS is %q: want 0 to %d", count, maxPassed)
	}
	sockets := make([]Socket, n)
	for i := range sockets {
		if i < len(names) {
			sockets[i].Name = names[i]
		}
		sockets[i].File = inherited(firstPassed+i, sockets[i].Name)
	}
	return sockets, nil
}

// firstPassed is the number of the first descriptor (SD_LISTEN_FDS_START).
const firstPassed = 3

// Notifier tells the manager how this process fares. A nil Notifier tells nobody. It owns
// its socket; its methods are safe for concurrent use and never wait.
type Notifier struct {
	conn     *net.UnixConn
	watchdog time.Duration
}

// NewNotifier returns nil where no manager wants to be told. The caller calls Close.
func NewNotifier() (*Notifier, error) {
	path, usec, pid := take("NOTIFY_SOCKET"), take("WATCHDOG_USEC"), take("WATCHDOG_PID")
	if path == "" {
		return nil, nil
	}
	if path[0] != '/' && path[0] != '@' {
		return nil, fmt.Errorf("NOTIFY_SOCKET is %q: want an absolute path, or @ and an abstract name", path)
	}
	n := new(Notifier)
	if us, err := strconv.ParseInt(usec, 10, 64); err == nil && us > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.watchdog = time.Duration(min(us, int64(maxWatchdog/time.Microsecond))) * time.Microsecond
	}
	var err error
	if n.conn, err = net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}); err != nil {
		return nil, fmt.Errorf("the service manager can't be told anything: %w", err)
	}
	return n, nil
}

const maxWatchdog = 24 * time.Hour

// Watchdog is how long the manager waits for WATCHDOG=1 before it ends this process; 0:
// it does not.
func (n *Notifier) Watchdog() time.Duration {
	if n == nil {
		return 0
	}
	return n.watchdog
}

// Say sends the state, lines such as "READY=1". A manager that does not read is an error.
func (n *Notifier) Say(lines ...string) error {
	if n == nil {
		return nil
	}
	return n.send(strings.Join(lines, "\n"), nil)
}

// Keep has the manager keep a copy of a socket under a name, for the process that it
// starts after this one. It borrows the socket.
func (n *Notifier) Keep(name string, socket syscall.Conn) error {
	if n == nil {
		return nil
	}
	kept, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	return n.send("FDSTORE=1\nFDNAME="+name, kept)
}

// Forget has the manager close what it keeps under a name.
func (n *Notifier) Forget(name string) error { return n.Say("FDSTOREREMOVE=1", "FDNAME="+name) }

func (n *Notifier) send(text string, beside syscall.RawConn) error {
	if _, err := sock.SendRaw(n.conn, []byte(text), beside); err != nil {
		first, _, _ := strings.Cut(text, "\n")
		return fmt.Errorf("tell the service manager %s: %w", first, err)
	}
	return nil
}

// Close closes the Notifier's socket.
func (n *Notifier) Close() error {
	if n == nil {
		return nil
	}
	return n.conn.Close()
}

// take returns a variable and takes it out of the environment.
func take(name string) string {
	value := os.Getenv(name)
	_ = os.Unsetenv(name)
	return value
}
