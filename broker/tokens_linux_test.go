package broker_test

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/seed-7265657e/usher/internal/wire"
)

// TestTokensAreNotLogged: whatever goes wrong with them.
func TestTokensAreNotLogged(t *testing.T) {
	var log lines
	s := newSite(t, func(o *options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	b := s.fake(demoVersion)
	var tokens [][]byte
	for _, answer := range []func(*offered){
		func(o *offered) { b.adopt(o); b.ack(o, nil) },
		b.nack,
		func(o *offered) { b.ack(o, func(a *wire.Ack) { a.Token[0]++ }) },
	} {
		c := s.dial()
		send(t, c, helloFor(t, usherClient, nil))
		o := b.receive()
		tokens = append(tokens, o.Token)
		answer(o)
		readGrant(t, c)
	}
	b.ended()
	s.settle()
	text := log.String()
	if !strings.Contains(text, "event=handoff.adopted") || !strings.Contains(text, "event=handoff.fell_back") {
		t.Fatalf("nothing to judge in:\n%s", text)
	}
	for _, token := range tokens {
		for _, form := range []string{"%s", "%x", "%X", "%v", "%q", "% x"} {
			shown := strings.Trim(fmt.Sprintf(form, token), "[]\"")
			if strings.Contains(text, shown) {
				t.Errorf("a token is in the log as %s", form)
			}
		}
	}
}

// lines is a log in memory.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
