package broker_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
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
