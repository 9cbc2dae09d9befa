package broker_test

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestUnreadableSocketDoesNotEndTheBroker: that the socket's name can't be looked
// at for a while is said once, and the broker serves on.
func TestUnreadableSocketDoesNotEndTheBroker(t *testing.T) {
	log := new(lines)
	s := newSite(t, func(o *options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	s.listen(demoVersion)
	// A symbolic link to itself: an error that root gets, too, and that is not
	// "no such file", as the name is never missing in between.
	away := s.dir + ".away"
	exchange := func() error {
		return unix.Renameat2(unix.AT_FDCWD, s.dir, unix.AT_FDCWD, away, unix.RENAME_EXCHANGE)
	}
	if err := errors.Join(os.Symlink(s.dir, away), exchange()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(away) })
	const trouble, relief = "can't be looked at", "leads here again"
	begun := time.Now()
	testutil.WaitFor(t, "the broker has said so, or ended", func() bool { return strings.Count(log.String(), trouble) > 0 || s.Draining() })
	looks := time.NewTicker(100 * time.Millisecond)
	defer looks.Stop()
	for time.Since(begun) < 2500*time.Millisecond && !s.Draining() { // room for what must not come: a line each second
		<-looks.C
	}
	if err := exchange(); err != nil {
		t.Fatal(err)
	}
	if s.Draining() {
		t.Fatal("the broker drains")
	}
	testutil.WaitFor(t, "the broker has seen its socket again", func() bool { return strings.Count(log.String(), relief) > 0 })
	if n := strings.Count(log.String(), trouble); n != 1 {
		t.Errorf("%d lines about it, want 1", n)
	}
	if got := start(t, "client", envSocket+"="+s.Socket()).dials(); !strings.Contains(got, "handed") {
		t.Errorf("afterwards a client got %s", got)
	}
}
