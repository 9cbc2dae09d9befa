//go:build unix

package cli

import (
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

func TestShutdown(t *testing.T) {
	testutil.Leaks(t)
	newPlace(t).startBroker(t)
	run(t, "shutdown").want(t, 0, "broker shutting down\n", "")
	testutil.WaitFor(t, "the broker is gone", func() bool { return run(t, "healthz").code == exitFailed })
}

func TestShutdownDeadline(t *testing.T) {
	got := make(chan uint64, 1)
	newPlace(t).startFake(t, func(f *wire.Frame) *wire.Frame {
		req := new(wire.AdminRequest)
		if err := frame.Unmarshal(f.Payload, req); err != nil {
			t.Error(err)
		}
		got <- req.DrainDeadlineMs
		return frame.Response(f, wire.Marshal(&wire.AdminReply{Body: "ok\n"}))
	})
	run(t, "shutdown", "--deadline", "1500us").want(t, 0, "ok\n", "")
	if ms := <-got; ms != 2 {
		t.Errorf("deadline is %d ms, want 2", ms)
	}
	run(t, "shutdown", "--deadline", "-1s").want(t, exitUsage, "", "above zero")
}

func TestWholeMilliseconds(t *testing.T) {
	for d, want := range map[time.Duration]uint64{0: 0, 1: 1, time.Millisecond: 1, time.Second + 1: 1001} {
		if got := wholeMilliseconds(durationValue(d)); got != want {
			t.Errorf("%v is %d ms, want %d", d, got, want)
		}
	}
}
