//go:build unix

package handoff

import (
	"errors"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestBackendBreaksTheChannel: an answer with another handoff's token, or bytes
// that are no answer, end the channel, and every delivery under way learns it.
func TestBackendBreaksTheChannel(t *testing.T) {
	raw := func(msg []byte) func(*testing.T, *line, *wire.Offer, *wire.Offer) {
		return func(t *testing.T, l *line, _, _ *wire.Offer) {
			if err := l.backend.Send(msg); err != nil {
				t.Fatal(err)
			}
		}
	}
	answer := func(make func(mine, other *wire.Offer) *wire.Ack) func(*testing.T, *line, *wire.Offer, *wire.Offer) {
		return func(t *testing.T, l *line, mine, other *wire.Offer) { l.answer(t, make(mine, other)) }
	}
	for name, act := range map[string]func(t *testing.T, l *line, mine, other *wire.Offer){
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
			msg, err := frame.Append(nil, frame.ChannelAck(&wire.Ack{HandoffId: mine.HandoffId, Token: mine.Token, Accepted: true}))
			if err != nil {
				t.Fatal(err)
			}
			if err := l.backend.Send(msg, l.claim.FD()); err != nil {
				t.Fatal(err)
			}
		},
		"no frame":       raw([]byte("nonsense")),
		"empty frame":    raw([]byte{frame.Version, 0, 0, 0, 0}),
		"malformed body": raw([]byte{frame.Version, 1, 0, 0, 0, 0xFF}),
	} {
		t.Run(name, func(t *testing.T) {
			onBothKinds(t, func(t *testing.T, l *line) {
				mine, other := l.offer(t, 1), l.offer(t, 2)
				o1, o2 := l.receive(t), l.receive(t)
				act(t, l, o1, o2)
				if err := <-l.served; err == nil {
					t.Error("Serve does not say what the backend did")
				}
				<-l.Done()
				for _, d := range []*channelDelivery{mine, other} {
					if ack, err := d.AwaitAck(t.Context()); err != ErrBackendGone {
						t.Errorf("got %+v, %v", ack, err)
					}
					d.Close()
				}
				if _, err := l.Send(t.Context(), Offer{Claim: l.claim}, l.conn); sendClassOf(t, err) != SendBackendUnavailable {
					t.Errorf("sent on a channel that has ended: %v", err)
				}
				if l.Strays() != 0 {
					t.Errorf("%d strays", l.Strays())
				}
			})
		})
	}
}

func TestBackendGone(t *testing.T) {
	onBothKinds(t, func(t *testing.T, l *line) {
		d := l.offer(t, 1)
		_ = l.backend.Close()
		if err := <-l.served; err != nil {
			t.Errorf("its end is no fault of the backend: %v", err)
		}
		if _, err := d.AwaitAck(t.Context()); err != ErrBackendGone {
			t.Errorf("got %v", err)
		}
		_, err := l.Send(t.Context(), Offer{Claim: l.claim}, l.conn)
		if sendClassOf(t, err) != SendBackendUnavailable || !errors.Is(err, ErrBackendGone) {
			t.Errorf("got %v", err)
		}
		d.Close()
	})
}

// TestBackendGoneUnnoticed: the system knows before Serve does.
func TestBackendGoneUnnoticed(t *testing.T) {
	testutil.Leaks(t)
	l := newLine(t, unix.SOCK_STREAM)
	_ = l.backend.Close()
	_, err := l.Send(t.Context(), Offer{Claim: l.claim}, l.conn)
	if sendClassOf(t, err) != SendBackendUnavailable || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("got %v", err)
	}
	l.idle(t)
	l.Close()
	_, err = l.Send(t.Context(), Offer{Claim: l.claim}, l.conn)
	if sendClassOf(t, err) != SendBackendUnavailable {
		t.Errorf("closed: got %v", err)
	}
	l.idle(t)
}

// TestLastWordsOfABackend: an ACK sent before the end still counts, also when
// the backend left with the next offer unread.
func TestLastWordsOfABackend(t *testing.T) {
	onBothKinds(t, func(t *testing.T, l *line) {
		adopted := l.offer(t, 1)
		o := l.receive(t)
		unread := l.offer(t, 2)
		l.answer(t, accept(o))
		_ = l.backend.Close()
		wantAnswer(t, adopted, Ack{Token: o.Token, Accepted: true})
		if _, err := unread.AwaitAck(t.Context()); err != ErrBackendGone {
			t.Errorf("got %v", err)
		}
		unread.Close()
	})
}

func TestCloseEndsServe(t *testing.T) {
	onBothKinds(t, func(t *testing.T, l *line) {
		d := l.offer(t, 1)
		l.Close()
		l.Close()
		if err := <-l.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		<-l.Done()
		if _, err := d.AwaitAck(t.Context()); err != ErrBackendGone {
			t.Errorf("got %v", err)
		}
		if o := l.receive(t); !(Token{1}).Equal(o.Token) {
			t.Error("what was sent is gone")
		}
		d.Close()
	})
}
