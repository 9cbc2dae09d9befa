package client_test

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestNoReadAhead has the service's first bytes arrive in one piece with the verdict.
func TestNoReadAhead(t *testing.T) {
	for _, ahead := range []bool{false, true} {
		t.Run(map[bool]string{false: "read from the descriptor", true: "read ahead"}[ahead], func(t *testing.T) {
			testutil.Leaks(t)
			socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
				_, _ = c.Write(append(framed(grant(f, hello.Grant{BackendPipe: "/x", Token: token}), frame.HandoffReady(token, 1)), "welcome"...))
				hold2(c)
			})
			c := mustDial(t, options(socket, func(o *client.Options) { o.NoReadAhead = !ahead }))
			raw, err := c.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			buf, n := make([]byte, 64), 0
			if ctlErr := raw.Control(func(fd uintptr) { n, _, err = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT) }); ctlErr != nil {
				t.Fatal(ctlErr)
			}
			if got := string(buf[:max(n, 0)]); ahead != (err == unix.EAGAIN) || ahead == (got == "welcome") {
				t.Errorf("the descriptor has %q, %v", got, err)
			}
		})
	}
}
