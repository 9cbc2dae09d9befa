//go:build unix

package sock

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestRecvIntoFullTable: when the descriptor table is full, the bytes arrive
// without descriptors, or with some of them, and only MSG_CTRUNC tells (faults
// row 9). The table of a helper process is full, not this one's.
func TestRecvIntoFullTable(t *testing.T) {
	testutil.Leaks(t)
	a, b := fdPair(t, unix.SOCK_SEQPACKET)
	for range 2 {
		sendFDs(t, a, "message", devNull(t, 2)...)
	}
	dup, err := unix.Dup(b)
	if err != nil {
		t.Fatal(err)
	}
	sock := os.NewFile(uintptr(dup), "sock")
	defer func() { _ = sock.Close() }()
	out, err := testutil.Helper(t, "full table", sock).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := "message 0 true\nmessage 1 true\n"
	if got := string(out); got != want {
		t.Errorf("the helper saw\n%s, want\n%s", got, want)
	}
}

// receiveIntoFullTable receives one message with no room for a descriptor and
// one with room for one, and tells what came.
func receiveIntoFullTable() error {
	const sock, limit = 3, 64
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	var last int
	for {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY, 0)
		if errors.Is(err, unix.EMFILE) {
			break
		}
		if err != nil {
			return err
		}
		last = fd
	}
	var report strings.Builder
	for range 2 {
		buf := make([]byte, 64)
		m, err := new(receiver).recv(sock, buf)
		if err != nil {
			return err
		}
		fmt.Fprintln(&report, string(buf[:m.N]), m.FDs.Len(), errors.Is(m.Fault, ErrDescriptorsLost))
		m.FDs.Close()
		_ = unix.Close(last)
	}
	_, err := fmt.Print(report.String())
	return err
}
