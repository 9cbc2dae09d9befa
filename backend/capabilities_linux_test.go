package backend_test

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestCapabilities: the backend states its own, and takes an answer with none, as from
// a broker that was built before, and one with bits and fields that it does not know.
func TestCapabilities(t *testing.T) {
	for name, answer := range map[string][]byte{
		"before": {0x08, 1}, // 1 accepted
		"later":  append(wire.Marshal(&wire.Registered{Accepted: true, Capabilities: ^uint64(0)}), 0xba, 0x06, 1, 'x'),
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			p := newPlace(t)
			wires := make(chan session, 16)
			answering(t, p, func(c *net.UnixConn, f *wire.Frame) {
				request, err := frame.ParseRegister(f)
				if err != nil || request.Capabilities != frame.CapUnknownMessages {
					t.Errorf("request %v, %v", request, err)
				}
				near, far, err := newWire(t)
				if err != nil {
					t.Error(err)
					return
				}
				defer func() { _ = unix.Close(far) }()
				reply(t, c, frame.Response(f, answer), far)
				wires <- near
			})
			ln := listen(t, p)
			w := next(t, wires)
			w.works(t, ln, 1)
		})
	}
}
