package loglimit_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/loglimit"
)

// log writes lines at times of the test's choosing.
type log struct {
	h    *loglimit.Handler
	out  *strings.Builder
	base time.Time
}

func newLog() *log {
	out := new(strings.Builder)
	text := slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return &log{loglimit.New(text), out, time.Now()}
}

func (l *log) line(after time.Duration, level slog.Level, message string) {
	r := slog.NewRecord(l.base.Add(after), level, message, 0)
	_ = l.h.Handle(context.Background(), r)
}

func (l *log) count(text string) int { return strings.Count(l.out.String(), text) }

// TestFirstLinesThenACount: a message is written a few times a minute, then counted;
// others are written all the same.
func TestFirstLinesThenACount(t *testing.T) {
	l := newLog()
	for range 1000 {
		l.line(0, slog.LevelWarn, "refused")
	}
	l.line(time.Second, slog.LevelInfo, "registered")
	if got := l.count("msg=refused"); got != loglimit.Burst {
		t.Errorf("%d lines, want %d", got, loglimit.Burst)
	}
	if l.count("msg=registered") != 1 {
		t.Error("another message was left out")
	}
	l.line(loglimit.Window, slog.LevelInfo, "registered") // whatever comes next brings the count
	want := fmt.Sprintf("level=WARN msg=refused more=%d within=1m0s\n", 1000-loglimit.Burst)
	if l.count(want) != 1 {
		t.Errorf("no %q in %s", want, l.out)
	}
	l.line(loglimit.Window, slog.LevelWarn, "refused")
	if got := l.count("msg=refused"); got != loglimit.Burst+2 {
		t.Errorf("in the next minute it is not written: %s", l.out)
	}
}

// TestDebugLinesPass: who asks for debug lines gets all of them.
func TestDebugLinesPass(t *testing.T) {
	l := newLog()
	for range 1000 {
		l.line(0, slog.LevelDebug, "handed over")
	}
	if got := l.count("handed over"); got != 1000 {
		t.Errorf("%d lines", got)
	}
}

// TestFlush: the end of the program does not lose a count.
func TestFlush(t *testing.T) {
	l := newLog()
	logger := slog.New(l.h).With("a", 1).WithGroup("g")
	for range loglimit.Burst + 3 {
		logger.Info("refused")
	}
	l.h.Flush(context.Background())
	l.h.Flush(context.Background())
	if l.count("more=3") != 1 {
		t.Errorf("got %s", l.out)
	}
}

// TestManyMessages: messages without end take no memory without end.
func TestManyMessages(t *testing.T) {
	l := newLog()
	for n := range 10_000 {
		l.line(0, slog.LevelInfo, fmt.Sprint("message ", n))
	}
	if got := l.count("\n"); got > 300 {
		t.Errorf("%d lines", got)
	}
}
