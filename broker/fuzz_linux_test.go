package broker_test

import (
	"io"
	"testing"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

func unmarshal(tb testing.TB, b []byte, m wire.Message) {
	tb.Helper()
	if err := frame.Unmarshal(b, m); err != nil {
		tb.Fatal(err)
	}
}

// FuzzFirstFrame: whatever a client sends, the broker lives, the connection ends,
// and what it answers is whole frames.
func FuzzFirstFrame(f *testing.F) {
	v := invalid(f)
	for _, c := range v.Framing {
		f.Add(testutil.Hex(f, c.Hex))
	}
	for _, c := range v.Refusals.Cases {
		f.Add(testutil.Hex(f, c.WireHex))
	}
	f.Add(bytesOf(f, adminFrame(wire.AdminVerb_ADMIN_VERB_STATUS, nil)))
	f.Add(bytesOf(f, frame.RegisterRequest(&wire.Register{ServiceName: demo, ServiceVersion: demoVersion, BackendPipe: "/p"})))
	s := newSite(f, nil)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if shutsDown(raw) {
			t.Skip("obeyed, as it should be")
		}
		c := dial(t, s.Socket())
		_, _ = c.Write(raw) // refused before its end, perhaps
		_ = c.CloseWrite()
		for {
			_, _, err := frame.Read(c, frame.MaxBody)
			if err == nil {
				continue
			}
			if rest, err := io.ReadAll(c); len(rest) != 0 {
				t.Fatalf("read %q behind the last frame, %v", rest, err)
			}
			return
		}
	})
}

func shutsDown(raw []byte) bool {
	fr, _, err := frame.Decode(raw, frame.MaxBody)
	if err != nil || fr.PayloadProtocol != frame.Admin {
		return false
	}
	req := new(wire.AdminRequest)
	return frame.Unmarshal(fr.Payload, req) == nil && req.Verb == wire.AdminVerb_ADMIN_VERB_SHUTDOWN
}
