package broker_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestAlwaysDiesWhenReady: instances that say that they are ready, and end, are tries like
// any others: three in half a minute, and then whoever asks is told why.
func TestAlwaysDiesWhenReady(t *testing.T) {
	s := starting(t, "", "")
	mark := filepath.Join(s.dir, "mark")
	s.write(demo+".toml", fmt.Sprintf("min_version = \"1.0.0\"\nbinary_path = %q\n[start]\n[start.env]\nUSHER_TEST_HELPER = \"started\"\n%s = %q\n", ownBinary(t), envMode, "dies ready "+mark))
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readReply(t, c)
	if answer, err := s.who(demoVersion); err == nil || !strings.Contains(err.Error(), "it was started 3 times in 30s: the daemon of "+demo) {
		t.Errorf("got %q, %v", answer, err)
	}
	if begun, err := os.ReadFile(mark); strings.Count(string(begun), "\n") != 3 || err != nil {
		t.Errorf("started as %q, %v", begun, err)
	}
}

// TestLetGoIsNoFailure: instances that are stopped do not use up the tries, also where no
// connection was handed to them.
func TestLetGoIsNoFailure(t *testing.T) {
	s := starting(t, "", "")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for n := range 5 {
		c, err := client.DialWith(ctx, client.Options{Service: demo, Version: demoVersion, Broker: s.Socket(), NoHandoff: true}, []byte("who\n"))
		if err != nil {
			t.Fatalf("instance %d: %v", n, err)
		}
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			t.Errorf("instance %d: %v", n, err)
		}
		_ = c.Close()
		if o := s.control(verbStop, "", 0); o.exit != 0 {
			t.Fatalf("got %+v", o)
		}
	}
}

// stoppedEarly begins a start for a client, and stops it before it is ready.
func (s *site) stoppedEarly(begun func() bool, stop func()) {
	s.tb.Helper()
	c := s.dial()
	send(s.tb, c, helloFor(s.tb, usherClient, nil))
	testutil.WaitFor(s.tb, "it is being started", begun)
	stop()
	if _, reply := readReply(s.tb, c); reply.Refused == nil || !strings.Contains(reply.Refused.Reason, "was stopped before it was ready") {
		s.tb.Errorf("got %v", reply)
	}
}

// TestStoppedEarlyIsNoFailure: who stops an instance that is just being started, again and
// again, uses up no tries, and the next client is not told of it, but served: of a program that
// runs, of one that waits for its address, and of one whose socket the broker itself closes.
func TestStoppedEarlyIsNoFailure(t *testing.T) {
	const often = 4 // more than there are tries
	stop := func(s *site) func() {
		return func() {
			if o := s.control(verbStop, "", patience); o.exit != 0 || o.results() != "ended" {
				s.tb.Errorf("got %+v", o)
			}
		}
	}
	served := func(s *site) {
		s.tb.Helper()
		if _, err := s.once(); err != nil {
			s.tb.Errorf("who comes behind a stop: %v", err)
		}
	}
	t.Run("runs", func(t *testing.T) {
		s := starting(t, "", "hangs")
		for range often {
			s.stoppedEarly(s.Launched, stop(s))
		}
		s.defineStart(ownBinary(t), "", "")
		served(s)
	})
	t.Run("waits for its address", func(t *testing.T) {
		s, path := programs(t, "relay")
		own := filepath.Join(s.dir, "own")
		l, err := net.Listen("unix", own)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go testAccept(l)
		s.write(demo+".toml", listening(t, "", fmt.Sprintf("[start]\nmode = \"relay\"\naddress = %q\nlisten = %q\ntimeout = \"1h\"", own, path), own))
		for range often {
			s.stoppedEarly(func() bool { return s.Starts() == 1 }, stop(s))
		}
		_ = l.Close()
		served(s)
	})
	t.Run("loses its socket", func(t *testing.T) {
		s := newSite(t, keepLogs)
		define := func(path, mode string) {
			s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = \"listen-fds\"\nlisten = %q\nnotify = true\nenv.USHER_TEST_HELPER = \"passed\"\nenv.%s = %q\n", ownBinary(t), path, envMode, mode))
			testutil.WaitFor(t, "somebody listens at "+path, func() bool { _, err := os.Lstat(path); return err == nil && s.Plain() == 1 })
		}
		define(filepath.Join(s.dir, "0"), "hangs")
		for n := range often {
			s.stoppedEarly(s.Launched, func() { define(filepath.Join(s.dir, fmt.Sprint(n+1)), "hangs") })
		}
		define(filepath.Join(s.dir, "last"), "")
		served(s)
	})
}

// idleAtOnce is ready, and idle with the next word. It notes in the file mark what it is told
// then. The definition has changed by the time that it is ready.
func idleAtOnce(mark, definition string) error {
	if err := os.Chtimes(definition, time.Time{}, time.Now()); err != nil {
		return err
	}
	ch, err := sayAlone(
		&wire.Note{Kind: wire.NoteKind_NOTE_KIND_READY, BackendPipe: mark + ".pipe"},
		&wire.Note{Kind: wire.NoteKind_NOTE_KIND_IDLE},
	)
	if err != nil {
		return err
	}
	told := "offer"
	if o, err := receiveOffer(ch); err != nil {
		told = err.Error()
	} else {
		o.fds.Close()
	}
	f, err := os.OpenFile(mark, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, told)
	return errors.Join(err, f.Close())
}

// TestIdleBeforeItsFirst: an instance that says that it is idle, while the client that it was
// started for is on its way to it, is not let go.
func TestIdleBeforeItsFirst(t *testing.T) {
	s := starting(t, "", "")
	mark, definition := filepath.Join(s.dir, "mark"), filepath.Join(s.defs, demo+".toml")
	s.defineStart(ownBinary(t), "", "idle at once "+mark+" "+definition)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	var told []byte
	testutil.WaitFor(t, "it was told something", func() bool { told, _ = os.ReadFile(mark); return bytes.HasSuffix(told, []byte("\n")) })
	if first, _, _ := strings.Cut(string(told), "\n"); first != "offer" {
		t.Errorf("told %q", first)
	}
}
