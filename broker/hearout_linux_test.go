package broker_test

import (
	"errors"
	"strconv"
	"syscall"
	"testing"

	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestAckOfADeadInstance: what an instance has acknowledged before its end is adopted,
// also where its end is known before its ACK has been read.
func TestAckOfADeadInstance(t *testing.T) {
	s := starting(t, "", "")
	pid, err := strconv.Atoi(word(s.mustAsk(demoVersion), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	sent, release := make(chan struct{}), make(chan struct{})
	failpoint.Set(func(at failpoint.Point) {
		if at == failpoint.BrokerSent {
			failpoint.Set(nil)
			close(sent)
			<-release
		}
	})
	t.Cleanup(func() { failpoint.Set(nil) })
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	<-sent
	readHandedOver(t, c)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "it has ended", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	close(release)
	testutil.WaitFor(t, "the broker knows", func() bool { return s.Backends() == 0 })
	checkHandoffs(t, s, handoffCounts{Adopted: 2})
}
