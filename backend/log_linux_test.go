package backend_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/loglimit"
	"github.com/seed-7265657e/usher/internal/wire"
)

// written is a log that a test can read while it is written.
type written struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(p)
}

func (w *written) count(text string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(w.buf.String(), text)
}

// TestOffersCantFillTheLog: what a broker does wrong again and again is written a few
// times, and then counted.
func TestOffersCantFillTheLog(t *testing.T) {
	log := new(written)
	ln, w, _ := behindFake(t, func(o *backend.Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	w.works(t, ln, 1)
	bad := hostile{fds: func(_, _ int) []int { return nil }}
	for range 3 * loglimit.Burst {
		l := newLoad(t)
		bad.send(t, w, l)
		if ack := w.ack(t); ack.Accepted || ack.Reason != wire.NackReason_NACK_REASON_DESCRIPTORS {
			t.Fatalf("answer %v", ack)
		}
		l.drop()
	}
	if got := log.count("handoff not adopted"); got != loglimit.Burst {
		t.Errorf("%d lines, want %d", got, loglimit.Burst)
	}
}
