//go:build linux && !usher_portable

package broker_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// greeted is a relayed connection whose program has said who it is.
func (s *site) greeted(plain string) (*net.UnixConn, *bufio.Reader) {
	s.tb.Helper()
	c := s.awaitSocket(plain)
	lines := bufio.NewReader(c)
	if who, err := lines.ReadString('\n'); err != nil || word(who, "pid") == "" {
		s.tb.Fatalf("got %q, %v", who, err)
	}
	return c, lines
}

// TestRelayedOnTheLoop: the first messages of a relayed connection, and its end, are the
// loop's; one that goes on, or says much at once, gets a goroutine, and nothing is lost where
// it does. What the loop has ends with the broker, too.
func TestRelayedOnTheLoop(t *testing.T) {
	s, plain := relayed(t, "path", "")
	s.greeted(plain) // whoever starts the program may be relayed by a job
	testutil.WaitFor(t, "the program is ready", func() bool { return s.Backends() == 1 })
	before := s.Looped()

	brief, lines := s.greeted(plain)
	if n := s.Looped() - before; n != 1 {
		t.Errorf("%d on the loop behind the first message", n)
	}
	if err := brief.CloseWrite(); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(lines); len(rest) > 0 || err != nil {
		t.Errorf("got %q, %v", rest, err)
	}
	testutil.WaitFor(t, "it is relayed no more", func() bool { return s.Relays() == 1 && s.Looped() == before })

	chatty, lines := s.greeted(plain)
	for i := range 10 { // two events each, or one
		want := fmt.Sprintf("message %d\n", i)
		if _, err := io.WriteString(chatty, want); err != nil {
			t.Fatal(err)
		}
		if got, err := lines.ReadString('\n'); got != want || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if n := s.Looped() - before; n != 0 || s.Relays() != 2 {
		t.Errorf("%d on the loop behind ten exchanges, of %d relayed", n, s.Relays())
	}

	large, lines := s.greeted(plain)
	want := strings.Repeat("x", 1<<20) + "\n"
	go func() { _, _ = io.WriteString(large, want) }()
	if got, err := lines.ReadString('\n'); got != want || err != nil {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	if n := s.Looped() - before; n != 0 {
		t.Errorf("%d on the loop behind a large message", n)
	}

	last, lines := s.greeted(plain)
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
	for _, c := range []io.Reader{lines, chatty, large, last} {
		if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil {
			t.Errorf("behind the broker's end: %q, %v", rest, err)
		}
	}
}

// TestRelayedGone: a client that has gone ends its connection to a program that never does.
func TestRelayedGone(t *testing.T) {
	s, plain := programs(t, "relay")
	own := s.dir + "/own"
	s.write(demo+".toml", listening(t, "does not end", fmt.Sprintf("[start]\nmode = \"relay\"\naddress = %q\nlisten = %q", own, plain), own))
	for _, halfFirst := range []bool{true, false} {
		c, _ := s.greeted(plain)
		if halfFirst {
			relays := s.Relays()
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
			s.greeted(plain) // meanwhile
			if n := s.Relays(); n != relays+1 {
				t.Errorf("%d are relayed, one of which has ended its direction, want %d", n, relays+1)
			}
		}
		relays := s.Relays()
		_ = c.Close()
		testutil.WaitFor(t, "it is relayed no more", func() bool { return s.Relays() < relays })
	}
}
