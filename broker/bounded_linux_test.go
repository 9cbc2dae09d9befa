package broker_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/loglimit"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// logged counts the lines of a log, by message.
type logged struct {
	mu    sync.Mutex
	lines map[string]int
	more  bool // some line says how many were left out
}

func (*logged) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (l *logged) WithAttrs([]slog.Attr) slog.Handler             { return l }
func (l *logged) WithGroup(string) slog.Handler                  { return l }

func (l *logged) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines[r.Message]++
	r.Attrs(func(a slog.Attr) bool {
		l.more = l.more || a.Key == "more"
		return true
	})
	return nil
}

// TestPeersCantFillTheLog: whatever a peer does again and again is written a few times,
// and then counted.
func TestPeersCantFillTheLog(t *testing.T) {
	log := &logged{lines: make(map[string]int)}
	s := newSite(t, func(o *options) { o.Logger = slog.New(log) })
	refused := bytesOf(t, frame.RegisterRequest(&wire.Register{ServiceName: "nobody", ServiceVersion: demoVersion, BackendPipe: "x"}))
	malformed := bytesOf(t, frame.Request(frame.Register, 1, []byte{0xff}))
	gone := bytesOf(t, frame.RegisterRequest(&wire.Register{ServiceName: demo, ServiceVersion: demoVersion, BackendPipe: s.pipe("p")}))
	for range 3 * loglimit.Burst {
		for _, raw := range [][]byte{refused, malformed, gone, helloFor(t, usherClient, nil), {2}, nil} {
			c, err := net.Dial("unix", s.Socket())
			if err != nil {
				t.Fatal(err)
			}
			send(t, c, raw)
			_ = c.Close()
		}
	}
	testutil.WaitFor(t, "all of them are judged", func() bool { return s.Backends() == 0 })
	s.settle()
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	for message, n := range log.lines {
		if n > loglimit.Burst+1 {
			t.Errorf("%q was written %d times", message, n)
		}
	}
	if !log.more {
		t.Error("nothing says how many lines were left out")
	}
}

// TestMemoryOfLargeFramesIsGivenBack: first frames as large as the broker reads leave
// it as small as it was.
func TestMemoryOfLargeFramesIsGivenBack(t *testing.T) {
	if testutil.Race {
		t.Skip("the race detector's own memory hides what is measured")
	}
	p, s := ownBroker(t)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readRefusal(t, c, notRegistered, "")
	before := p.residentKB()
	raw := make([]byte, frame.HeaderLen+256<<10)
	raw[0] = frame.Version
	binary.LittleEndian.PutUint32(raw[1:], 256<<10)
	for range 2 {
		var crowd []*net.UnixConn
		for range 400 {
			c := s.dial()
			_ = c.SetWriteBuffer(512 << 10)
			send(t, c, raw[:len(raw)-1])
			crowd = append(crowd, c)
		}
		for _, c := range crowd {
			testutil.WaitFor(t, "the broker has read it", func() bool { return unsent(t, c) == 0 })
		}
		for _, c := range crowd {
			_ = c.Close()
		}
	}
	testutil.WaitFor(t, "its memory is given back", func() bool { return p.residentKB() < before+20<<10 })
	p.end()
}

// unsent is how many bytes the other end has not read yet.
func unsent(tb testing.TB, c *net.UnixConn) int {
	tb.Helper()
	n, err := unix.IoctlGetInt(testutil.FD(tb, c), unix.TIOCOUTQ)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// residentKB is how much memory the process has, in kB.
func (p *process) residentKB() (kb int) {
	p.tb.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		p.tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		p.tb.Fatal(err)
	}
	return kb
}
