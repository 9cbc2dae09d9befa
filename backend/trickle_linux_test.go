package backend_test

import (
	"io"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestTrickle: a client that sends one byte at a time, each with a descriptor that the
// kernel closes inside the read, has the loop read once for its request and once behind
// an inline answer; all the rest is the application's to read, on its own goroutine.
func TestTrickle(t *testing.T) {
	const bytes = 50
	for name, handedOver := range map[string]bool{"dialled": false, "early data": true} {
		for answers, answered := range map[string]bool{"": false, ", answered inline": true} {
			t.Run(name+answers, func(t *testing.T) {
				testutil.Leaks(t)
				p := newPlace(t)
				wires := fakeBroker(t, p)
				var seen atomic.Int64
				ln := listen(t, p, func(o *backend.Options) {
					o.Inline = func(answer, request []byte) ([]byte, bool) {
						seen.Add(int64(len(request)))
						return append(answer, "!"...), answered
					}
				})
				w := next(t, wires)
				l := newLoad(t)
				null := devNull(t)
				defer func() { _ = unix.Close(null) }()
				trickle := func(fd int) {
					for range bytes {
						switch n, err := testutil.SendFDs(fd, []byte("x"), null); {
						case err == unix.EPERM && !handedOver:
							t.Skip("the kernel refuses descriptors on the way to a pipe, so this can't happen")
						case n != 1 || err != nil:
							t.Fatal(n, err)
						}
					}
				}
				if handedOver {
					trickle(testutil.FD(t, l.client))
					w.offer(t, offer(1, func(o *wire.Offer) { o.EarlyDataLen = bytes }), l.conn, l.claimFD())
					_ = w.ack(t)
				} else {
					trickle(testutil.FD(t, dialPipe(t, ln.Addr().String())))
				}
				l.drop()
				s := accept(t, ln)
				rest := bytes
				if answered {
					rest--
				}
				if n, err := io.ReadFull(s, make([]byte, rest)); err != nil {
					t.Errorf("%d bytes reach the application, %v", n, err)
				}
				if seen.Load() != 1 {
					t.Errorf("Inline has seen %d bytes", seen.Load())
				}
			})
		}
	}
}
