//go:build unix

package handoff_test

import (
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-7265657e/usher/handoff"
)

var errnos = map[string]syscall.Errno{
	"EPERM":        syscall.EPERM,
	"EACCES":       syscall.EACCES,
	"EAGAIN":       syscall.EAGAIN,
	"EWOULDBLOCK":  syscall.EWOULDBLOCK,
	"ENOBUFS":      syscall.ENOBUFS,
	"EMSGSIZE":     syscall.EMSGSIZE,
	"ECONNREFUSED": syscall.ECONNREFUSED,
	"ECONNRESET":   syscall.ECONNRESET,
	"EPIPE":        syscall.EPIPE,
	"ENOTCONN":     syscall.ENOTCONN,
}

// anythingElse stands for the errnos that no row names; ENOSYS and EOPNOTSUPP
// also match errors.ErrUnsupported and must not be taken for it.
var anythingElse = []syscall.Errno{syscall.EBADF, syscall.EINVAL, syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.ENOENT}

func TestClassifyErrnoVectors(t *testing.T) {
	v := readErrnoVectors(t).ErrnoMap
	for _, row := range v.Sendmsg {
		for _, errno := range rowErrnos(t, row) {
			checkErrno(t, handoff.ClassifySend, errno, row)
		}
	}
	for _, row := range v.Connect {
		for _, errno := range rowErrnos(t, row) {
			checkErrno(t, handoff.ClassifyConnect, errno, row)
		}
	}
}

func TestClassifyTooManyReferences(t *testing.T) {
	got := handoff.ClassifySend(syscall.ETOOMANYREFS)
	checkSendError(t, got, "WouldBlock", "BackendAckTimeout", false)
}

func rowErrnos(t *testing.T, row errnoVector) []syscall.Errno {
	t.Helper()
	var found []syscall.Errno
	for _, name := range row.Errno {
		errno, known := errnos[name]
		switch {
		case known:
			found = append(found, errno)
		case name == "anything else":
			found = append(found, anythingElse...)
		default:
			t.Fatalf("unknown errno %q", name)
		}
	}
	return found
}

func checkErrno(t *testing.T, classify func(error) *handoff.SendError, errno syscall.Errno, row errnoVector) {
	t.Helper()
	class := row.Class
	if onMac, elsewhere, split := strings.Cut(class, " on macOS, "); split {
		class = strings.TrimSuffix(elsewhere, " elsewhere")
		if runtime.GOOS == "darwin" {
			class = onMac
		}
	}
	class, _, _ = strings.Cut(class, "(")
	wrapped := &net.OpError{Op: "write", Net: "unix", Err: os.NewSyscallError("sendmsg", errno)}
	for _, err := range []error{errno, wrapped} {
		checkSendError(t, classify(err), class, row.Reason, row.Reached)
	}
}
