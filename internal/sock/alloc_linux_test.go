//go:build linux && !usher_portable

package sock

import (
	"testing"
	"time"
)

// TestWriteAllocatesNothing, before and after the runtime's poller has the descriptor.
func TestWriteAllocatesNothing(t *testing.T) {
	a, b := connPair(t)
	byteBuf := make([]byte, 1)
	exchange := func() {
		if _, err := a.Write(byteBuf); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Read(byteBuf); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(100, exchange); n != 0 {
		t.Errorf("%v allocations", n)
	}
	_ = a.SetDeadline(time.Now().Add(patience))
	if n := testing.AllocsPerRun(100, exchange); n != 0 {
		t.Errorf("%v allocations in the poller", n)
	}
}
