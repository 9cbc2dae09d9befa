//go:build unix

package transport

import (
	"errors"
	"testing"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// wantEnd ends the channel, and with it exactly these attempts.
func (l *line) wantEnd(t *testing.T, pending ...*handoff.Attempt) {
	t.Helper()
	over := l.Retire()
	if len(over) != len(pending) {
		t.Errorf("%d attempts end with the channel, want %d", len(over), len(pending))
	}
	for _, a := range pending {
		if out := a.Unanswered(handoff.ErrBackendGone, at(1)); out.Verdict != handoff.NotTaken || !errors.Is(out.Err, handoff.ErrBackendGone) {
			t.Errorf("got %+v", out)
		}
	}
	if l.idle(t); len(l.Retire()) != 0 {
		t.Error("an attempt ends twice")
	}
	if err := l.Send(l.issue(t), handoff.Offer{}, l.conn); sendClassOf(t, err) != handoff.SendBackendUnavailable || !errors.Is(err, handoff.ErrBackendGone) {
		t.Errorf("sent on a channel that has ended: %v", err)
	}
}

// TestBackendBreaksTheChannel: an answer with another handoff's token, or bytes
// that are no answer, end the channel, and every attempt under way.
func TestBackendBreaksTheChannel(t *testing.T) {
	type act = func(t *testing.T, l *line, mine, other *wire.Offer)
	raw := func(msg []byte) act {
		return func(t *testing.T, l *line, _, _ *wire.Offer) {
			if err := l.backend.Send(msg); err != nil {
				t.Fatal(err)
			}
		}
	}
	answer := func(make func(mine, other *wire.Offer) *wire.Ack) act {
		return func(t *testing.T, l *line, mine, other *wire.Offer) { l.answer(t, make(mine, other)) }
	}
	for name, act := range map[string]act{
		"token of another handoff": answer(func(mine, other *wire.Offer) *wire.Ack {
			return &wire.Ack{HandoffId: mine.HandoffId, Token: other.Token, Accepted: true}
		}),
		"nack with a wrong token": answer(func(mine, other *wire.Offer) *wire.Ack {
			return &wire.Ack{HandoffId: mine.HandoffId, Token: other.Token}
		}),
		"ack without token": answer(func(mine, _ *wire.Offer) *wire.Ack {
			return &wire.Ack{HandoffId: mine.HandoffId, Accepted: true}
		}),
		"short token": answer(func(mine, _ *wire.Offer) *wire.Ack {
			return &wire.Ack{HandoffId: mine.HandoffId, Token: mine.Token[:15], Accepted: true}
		}),
		"ack with a descriptor": func(t *testing.T, l *line, mine, _ *wire.Offer) {
			l.answer(t, accept(mine), l.conn)
		},
		"no frame":       raw([]byte("nonsense")),
		"empty frame":    raw([]byte{frame.Version, 0, 0, 0, 0}),
		"malformed body": raw([]byte{frame.Version, 1, 0, 0, 0, 0xFF}),
	} {
		t.Run(name, func(t *testing.T) {
			l := newLine(t)
			mine, other := l.offer(t), l.offer(t)
			o1, o2 := l.receive(t), l.receive(t)
			act(t, l, o1, o2)
			if a, _, err := l.Next(); a != nil || Blame(err) == nil {
				t.Errorf("an attempt %v; %v does not say what the backend did", a != nil, err)
			}
			l.wantEnd(t, mine, other)
			if l.Strays() != (Strays{}) {
				t.Errorf("%+v", l.Strays())
			}
		})
	}
}

func TestBackendGone(t *testing.T) {
	l := newLine(t)
	a := l.offer(t)
	_ = l.backend.Close()
	if _, _, err := l.Next(); err == nil || Blame(err) != nil {
		t.Errorf("its end is no fault of the backend, and is one: %v", err)
	}
	l.wantEnd(t, a)
}

// TestBackendGoneUnnoticed: the system knows before anybody has read the end.
func TestBackendGoneUnnoticed(t *testing.T) {
	l := newLine(t)
	_ = l.backend.Close()
	if err := l.Send(l.issue(t), handoff.Offer{}, l.conn); sendClassOf(t, err) != handoff.SendBackendUnavailable {
		t.Errorf("got %v", err)
	}
}

// TestLastWordsOfABackend: an ACK sent before the end still counts, also when
// the backend left with the next offer unread.
func TestLastWordsOfABackend(t *testing.T) {
	l := newLine(t)
	adopted := l.offer(t)
	o := l.receive(t)
	unread := l.offer(t)
	l.answer(t, accept(o))
	_ = l.backend.Close()
	l.wantAnswer(t, adopted, handoff.Ack{Token: o.Token, Accepted: true})
	if _, _, err := l.Next(); err == nil || Blame(err) != nil {
		t.Errorf("got %v", err)
	}
	l.wantEnd(t, unread)
}

// TestClose: this side ends the channel, and what was sent stays readable.
func TestClose(t *testing.T) {
	l := newLine(t)
	a := l.offer(t)
	l.Close()
	l.Close()
	if _, _, err := l.Next(); err == nil || Blame(err) != nil {
		t.Errorf("got %v", err)
	}
	l.wantEnd(t, a)
	if o := l.receive(t); !a.Token().Equal(o.Token) {
		t.Error("what was sent is gone")
	}
}
