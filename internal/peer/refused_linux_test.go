//go:build linux && !usher_portable

package peer_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// What the kernel refuses to the helper, and what it takes to instead.
const (
	envErrno = "PEERTEST_ERRNO"
	envCalls = "PEERTEST_CALLS"
)

var refusals = map[string]struct {
	calls []testutil.Call
	means string
}{
	"pidfd_open":   {[]testutil.Call{{Number: unix.SYS_PIDFD_OPEN}}, "pid and start time"},
	"SO_PEERPIDFD": {[]testutil.Call{testutil.PeerPidfd}, "pidfd"},
	"both":         {[]testutil.Call{{Number: unix.SYS_PIDFD_OPEN}, testutil.PeerPidfd}, "pid and start time"},
}

// watchRefused opens the process that connects to it by every means, and waits for
// its end.
func watchRefused() error {
	r := refusals[os.Getenv(envCalls)]
	errno, err := strconv.Atoi(os.Getenv(envErrno))
	if err != nil {
		return err
	}
	path, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", path[:len(path)-1])
	if err != nil {
		return err
	}
	if err := testutil.Refuse(unix.Errno(errno), r.calls...); err != nil {
		return err
	}
	if means := peer.Means(); means != r.means {
		return fmt.Errorf("by %s, want %s", means, r.means)
	}
	fmt.Println("ready")
	c, err := l.Accept()
	if err != nil {
		return err
	}
	p, err := peer.OpenProcess(c.(*net.UnixConn))
	if err != nil {
		return err
	}
	trusted := peer.TrustedPID(c.(*net.UnixConn))
	if !p.Alive() || trusted != 0 && trusted != p.PID() {
		return fmt.Errorf("alive %v, pid %d, trusted %d", p.Alive(), p.PID(), trusted)
	}
	byPID, err := peer.OpenPID(p.PID())
	if err != nil {
		return err
	}
	fmt.Println("watching")
	if err := errors.Join(p.Wait(context.Background()), byPID.Wait(context.Background())); err != nil {
		return err
	}
	if p.Alive() || byPID.Alive() {
		return errors.New("alive after its end")
	}
	return nil
}

// TestProcessesWithoutPidfds: what an old kernel or a filter refuses is treated as
// missing.
func TestProcessesWithoutPidfds(t *testing.T) {
	for name, r := range refusals {
		errnos := []unix.Errno{unix.EPERM, unix.EACCES, unix.ENOSYS}
		if len(r.calls) == 1 && r.calls[0] == testutil.PeerPidfd {
			errnos = append(errnos, unix.ENOPROTOOPT)
		}
		for _, errno := range errnos {
			t.Run(name+" "+errno.Error(), func(t *testing.T) {
				cmd := testutil.Helper(t, "watch refused")
				cmd.Env = append(cmd.Env, envCalls+"="+name, envErrno+"="+strconv.Itoa(int(errno)))
				path := testutil.SocketPath(t)
				helper := start(t, cmd, path)
				c := start(t, testutil.Helper(t, "connect and stay"), path)
				helper.says(t, "watching")
				c.end(t)
				if err := helper.Wait(); err != nil {
					t.Errorf("the helper: %v", err)
				}
			})
		}
	}
}
