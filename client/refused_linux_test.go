package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// dialWithoutMemory is a helper process: a client for whose messages the kernel has no
// memory. It prints what it was told.
func dialWithoutMemory() error {
	if err := testutil.Refuse(unix.ENOBUFS, testutil.Call{Number: unix.SYS_SENDMSG}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := time.Now()
	_, err := client.DialWith(ctx, options(os.Getenv(socketEnv)), []byte("ping"))
	fmt.Printf("no memory %t, unknown %t, at once %t", errors.Is(err, unix.ENOBUFS), errors.Is(err, client.ErrOutcomeUnknown), time.Since(began) < patience/2)
	return nil
}

// TestFailedSendIsTheVerdict: only after a peer's end an answer may be there all the
// same. Where the kernel takes no more, what is left of a request must not follow later
// behind a gap; and of one that has not left at all the client knows that at once.
func TestFailedSendIsTheVerdict(t *testing.T) {
	testutil.Leaks(t)
	cmd := testutil.Helper(t, "dialWithoutMemory")
	cmd.Env = append(cmd.Env, socketEnv+"="+fake(t, func(c *net.UnixConn) { hold(c) }))
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if want := "no memory true, unknown false, at once true"; string(out) != want || err != nil {
		t.Errorf("%q, %v, want %q: %s", out, err, want, &complaint)
	}
}
