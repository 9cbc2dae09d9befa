package broker_test

import (
	"testing"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestLetGoAndFrozen: a backend that was let go and does not end its channel does not keep
// the broker from ending.
func TestLetGoAndFrozen(t *testing.T) {
	s := newSite(t, nil)
	b := s.fake(demoVersion)
	idle, err := frame.Append(nil, frame.ChannelNote(&wire.Note{Kind: wire.NoteKind_NOTE_KIND_IDLE}))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.ch.Send(idle); err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "it has been let go", func() bool { return s.Backends() == 0 })
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
	b.ended()
}
