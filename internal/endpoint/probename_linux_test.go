//go:build linux && !usher_portable

package endpoint

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// TestProbeIsKnown to the listener, from a client.
func TestProbeIsKnown(t *testing.T) {
	b := mustBind(t, filepath.Join(shortDir(t), "s.sock"))
	dials := []func() error{
		func() error { return CheckServedBy(b.Path, os.Getpid()) },
		func() error {
			c, err := net.Dial("unix", b.Path)
			if err == nil {
				t.Cleanup(func() { _ = c.Close() })
			}
			return err
		},
	}
	for i, dial := range dials {
		if err := dial(); err != nil {
			t.Fatal(err)
		}
		c, err := b.Listener.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		if is := IsProbe(c); is != (i == 0) {
			t.Errorf("dial %d: a probe: %v", i, is)
		}
		_ = c.Close()
	}
}
