package broker_test

import (
	"path/filepath"
	"testing"
)

// TestAnotherInstance: what one backend did not take, unread, another one serves,
// early data included, under a new token.
func TestAnotherInstance(t *testing.T) {
	for name, refuse := range map[string]func(*fake, *offered){
		"nack":     (*fake).nack,
		"leaves":   (*fake).leave,
		"hangs up": func(f *fake, _ *offered) { _ = f.ch.Close() },
		"garbage":  func(f *fake, _ *offered) { f.raw([]byte("garbage")) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, nil)
			other := s.echoProcess(filepath.Join(s.dir, "echo"))
			b := s.fake(demoVersion) // registered last: asked first
			c := s.dial()
			send(t, c, append(earlyHello(t), early...))
			o := b.receive()
			refuse(b, o)
			if g := readHandedOver(t, c); string(g.HandlePassedToken) == string(o.Token) || g.ConnectionId != o.ConnectionId {
				t.Errorf("granted %v after offer %v", g, o.Offer)
			}
			readExactly(t, c, early)
			checkEcho(t, c)
			counted := noAnswer(1)
			if name == "nack" || name == "leaves" {
				counted = nacked(1)
			}
			checkHandoffs(t, s, handoffCounts{Adopted: 1, NotTaken: 1, Retried: 1, Fallbacks: counted})
			other.end()
		})
	}
}

// TestRetryOnce: there is one second try, whoever else is there.
func TestRetryOnce(t *testing.T) {
	s := newSite(t, nil)
	third := s.echoProcess(filepath.Join(s.dir, "echo"))
	second := s.refusingProcess("second")
	b := s.fake(demoVersion)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	b.nack(b.receive())
	second.says("offer")
	readSentAway(t, c, s.pipe("second"))
	checkHandoffs(t, s, handoffCounts{NotTaken: 2, Retried: 1, Fallbacks: nacked(2)})
	second.end()
	third.end()
}
