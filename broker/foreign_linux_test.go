package broker_test

import (
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// foreignProcess gives its user up, connects and says what it could read. It
// sends nothing before, so whatever it reads the broker sent by itself.
func foreignProcess() error {
	uid, err := strconv.Atoi(os.Getenv(envMode))
	if err != nil {
		return err
	}
	if err := syscall.Setuid(uid); err != nil {
		return err
	}
	say("ready")
	untilInputEnds()
	c, err := net.Dial("unix", os.Getenv(envSocket))
	if err != nil {
		return err
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(c)
	say("read", len(got), err)
	return c.Close()
}

// TestForeignUser: whoever runs as another user is closed before the first read,
// without one byte of an answer. The overflow user is nobody's.
func TestForeignUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user; run this test as root")
	}
	for _, uid := range []string{"12345", "65534"} {
		t.Run(uid, func(t *testing.T) {
			s := newSite(t, nil)
			// The file modes are the first fence; the test steps over it.
			for path, mode := range map[string]os.FileMode{s.dir: 0o711, s.Socket(): 0o666} {
				if err := os.Chmod(path, mode); err != nil {
					t.Fatal(err)
				}
			}
			p := start(t, "foreign", envSocket+"="+s.Socket(), envMode+"="+uid)
			_ = p.stdin.Close()
			if got := p.says("read"); got != "0 <nil>" {
				t.Errorf("it read %s", got)
			}
			p.end()
			if n := clientCounts(t, s).Foreign; n != 1 {
				t.Errorf("%d foreign peers were counted", n)
			}
		})
	}
}
