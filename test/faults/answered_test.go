//go:build linux

package faults

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestKilledBehindItsAnswer: a backend that is killed after its answer, when the client
// has sent a second request as long as the first, leaves as many bytes unread as Hello
// declared. The client reads the answer, then the end: the broker, which would take that
// for a proof that nothing was read, says nothing in the middle of a conversation.
func TestKilledBehindItsAnswer(t *testing.T) {
	testutil.Leaks(t)
	w := newFixture(t)
	w.startBroker(role{})
	steady := w.start("backend", role{})
	w.settled()
	for n := range rounds() {
		faulty := w.start("backend", role{Inline: true, Point: failpoint.BackendReplied, Signal: syscall.SIGSTOP})
		w.registered(2)
		first, second := fmt.Sprintf("first-%03d", n), fmt.Sprintf("other-%03d", n)
		conn, err := client.DialWith(context.Background(), w.options(patience), []byte(first+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		in := bufio.NewReader(conn)
		if line, err := in.ReadString('\n'); err != nil || line != first+" done\n" {
			t.Fatalf("answer %q, %v", line, err)
		}
		faulty.frozen()
		if _, err := io.WriteString(conn, second+"\n"); err != nil {
			t.Fatal(err)
		}
		faulty.kill()
		if more, _ := io.ReadAll(in); len(more) > 0 {
			t.Errorf("behind the answer the client reads %q", more)
		}
		_ = conn.Close()
		w.registered(1)
		if ran := w.executions(); ran[first] != 1 || ran[second] != 0 {
			t.Errorf("ran %d and %d times", ran[first], ran[second])
		}
		if got := w.status().Handoffs.ProvenUnread; got != 0 {
			t.Errorf("%d requests proven unread", got)
		}
		w.healthy()
	}
	steady.quit()
	w.broker.quit()
}
