package broker_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// adopterProcess registers by hand, waits for one offer, and does with it what its
// mode says, word by word:
//
//	take     takes the claim
//	read=N   reads N bytes of the connection
//	ack      acknowledges, in the page if it has one, else by message
//	write    writes the preamble
//	leave    closes its channel and lives on
//	again    registers again, which makes the broker end its first channel
//	wait     waits for a line of input
//	die      kills itself, the connection open
func adopterProcess() error {
	l, err := net.Listen("unix", os.Getenv(envPipe))
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	words := strings.Fields(os.Getenv(envMode))
	page := words[0] == "page"
	answer, fds, err := registration(os.Getenv(envSocket), &wire.Register{
		ServiceName: demo, ServiceVersion: demoVersion, BackendPipe: os.Getenv(envPipe), ClaimPage: page,
	})
	if err != nil || !answer.Accepted {
		return fmt.Errorf("%v: %w", answer, err)
	}
	a := &adopter{ch: sock.NewChannel(fds.Take(0))}
	if page {
		if a.page, err = claim.ReceivePage(fds.Take(1)); err != nil {
			return err
		}
	}
	say("ready")
	if a.offer, err = receiveOffer(a.ch); err != nil {
		return err
	}
	a.conn = sock.NewConn(a.offer.fds.Take(0))
	for _, word := range words[1:] {
		if err := a.do(word); err != nil {
			return fmt.Errorf("%s: %w", word, err)
		}
	}
	untilInputEnds()
	return nil
}

type adopter struct {
	ch    *sock.Channel
	page  *claim.Page
	offer *offered
	claim *claim.Claim
	conn  net.Conn

	second sock.Descriptors // of a second registration
}

func (a *adopter) do(word string) (err error) {
	name, count, _ := strings.Cut(word, "=")
	switch name {
	case "take":
		if a.page != nil {
			a.claim, err = a.page.Claim(a.offer.ClaimWord, a.offer.ClaimGeneration)
		} else {
			a.claim, err = claim.Receive(a.offer.fds.Take(1))
		}
		won := false
		if err == nil {
			won, err = a.claim.Take()
		}
		if err == nil && !won {
			err = fmt.Errorf("the claim is gone")
		}
	case "read":
		n, _ := strconv.Atoi(count)
		_, err = a.conn.Read(make([]byte, n))
	case "ack":
		if !a.claim.Acknowledge() {
			err = sendAck(a.ch, a.offer, nil)
		}
	case "write":
		_, err = a.conn.Write(a.offer.Preamble)
	case "leave":
		err = a.ch.Close()
	case "again":
		var answer *wire.Registered
		answer, a.second, err = registration(os.Getenv(envSocket), &wire.Register{
			ServiceName: demo, ServiceVersion: demoVersion, BackendPipe: os.Getenv(envPipe), ClaimPage: a.page != nil,
		})
		if err == nil && !answer.Accepted {
			err = errors.New(answer.Reason)
		}
	case "wait":
		_, err = os.Stdin.Read(make([]byte, 1))
	case "die":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	}
	return err
}

// TestProofOfALateDeath: a process that is still there a while after its channel has ended, when
// it counts as one that has left, is waited for as long as the proof may take.
func TestProofOfALateDeath(t *testing.T) {
	testutil.Needs(t, "acknowledgements in a page")
	t.Cleanup(broker.SetProofTime(patience)) // behind the broker's end
	s := newSite(t, func(o *options) { keepLogs(o); o.AckDeadline = time.Minute })
	b := start(t, "adopter", envSocket+"="+s.Socket(), envPipe+"="+filepath.Join(s.dir, "adopter"), envMode+"=page take leave wait die")
	conn := s.dial()
	send(t, conn, append(earlyHello(t), early...))
	testutil.WaitFor(t, "it counts as one that has left", func() bool { return slices.Contains(s.events(), "backend.left") })
	_, _ = io.WriteString(b.stdin, "\n")
	readRefusal(t, conn, notRegistered, "")
	if got := readStatus(t, s).Handoffs.ProvenUnread; got != 1 {
		t.Errorf("%d requests proven unread", got)
	}
	_ = b.Wait()
}

// TestProofOfDeath: only of a backend that took the claim, is dead, has not
// acknowledged in its page, and left exactly as many bytes as the client had declared,
// is it proven that it read and wrote nothing; then the broker sends the client on. In
// every other case the broker writes nothing and the connection ends. Where
// acknowledgements are messages nothing is proven: a full channel takes none.
func TestProofOfDeath(t *testing.T) {
	n := len(early)
	for _, c := range []struct {
		name, does string
		sent       string // behind Hello, which declares early
		proven     bool
	}{
		{"unread", "take die", early, true},
		{"one byte read", "take read=1 die", early, false},
		{"all read", fmt.Sprintf("take read=%d die", n), early, false},
		{"acknowledged, as many unread as declared", fmt.Sprintf("take read=%d ack die", n), early + early, false},
		{"acknowledged, all unread", "take ack die", early, false},
		{"more unread than declared", "take die", early + "x", false},
		{"fewer sent than declared", "take die", early[1:], false},
		{"unread, and alive", "take leave", early, false},
		{"unread, its channel ended by the broker", "take again die", early, true},
		{"acknowledged, its channel ended by the broker", fmt.Sprintf("take again wait read=%d ack die", n), early + early, false},
		{"as many unread as declared, and alive", fmt.Sprintf("take read=%d leave", n), early + early, false},
		{"one byte read, and alive", "take read=1 leave", early, false},
		{"acknowledged after its channel had ended", fmt.Sprintf("take leave wait read=%d ack die", n), early + early, false},
		{"answered", fmt.Sprintf("take read=%d ack write die", n), early, false},
	} {
		for _, kind := range []string{"page", "descriptors"} {
			if kind == "page" && testutil.Portable {
				continue
			}
			if kind == "descriptors" && strings.Contains(c.does, "wait") {
				continue // without its channel it can't acknowledge
			}
			t.Run(c.name+", "+kind, func(t *testing.T) {
				s := newSite(t, func(o *options) { o.AckDeadline = time.Minute })
				b := start(t, "adopter", envSocket+"="+s.Socket(), envPipe+"="+filepath.Join(s.dir, "adopter"), envMode+"="+kind+" "+c.does)
				conn := s.dial()
				send(t, conn, append(earlyHello(t), c.sent...))
				proven := c.proven && kind == "page"
				if proven {
					readRefusal(t, conn, notRegistered, "") // the dead one was the only one
				}
				testutil.WaitFor(t, "the attempt has its outcome", func() bool { return readStatus(t, s).Handoffs.Adopted == 1 })
				if strings.Contains(c.does, "wait") {
					_, _ = io.WriteString(b.stdin, "\n")
				}
				s.settle() // with an adopter that lives, after the wait for its death
				want := map[bool]int{true: 1}[proven]
				if got := readStatus(t, s).Handoffs.ProvenUnread; got != want {
					t.Errorf("%d requests proven unread, want %d", got, want)
				}
				_ = b.stdin.Close() // one that lives has the last copy
				if strings.Contains(c.does, "write") {
					readHandedOver(t, conn)
				}
				readEnd(t, conn)
				_ = b.Wait()
			})
		}
	}
}
