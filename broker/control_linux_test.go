package broker_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

const (
	verbRestart = wire.AdminVerb_ADMIN_VERB_SERVICE_RESTART
	verbStop    = wire.AdminVerb_ADMIN_VERB_SERVICE_STOP
	verbPause   = wire.AdminVerb_ADMIN_VERB_SERVICE_PAUSE
	verbResume  = wire.AdminVerb_ADMIN_VERB_SERVICE_RESUME
)

// outcome is the body of a service verb's answer.
type outcome struct {
	Done      bool
	Instances []struct {
		PID         int
		Result      string
		Connections *int
		Text        string
	}
	Text []string
	exit uint32
}

// results are the instances' results, in their order.
func (o outcome) results() (all string) {
	for _, i := range o.Instances {
		all += i.Result + " "
	}
	return strings.TrimSpace(all)
}

func (s *site) control(verb wire.AdminVerb, version string, wait time.Duration) (o outcome) {
	s.tb.Helper()
	reply := s.admin(verb, func(req *wire.AdminRequest) {
		req.ServiceName, req.ServiceVersion, req.DrainDeadlineMs = demo, version, uint64(wait.Milliseconds())
	})
	if err := json.Unmarshal([]byte(reply.Body), &o); err != nil {
		s.tb.Fatalf("%v in %s", err, reply.Body)
	}
	if o.exit = reply.ExitCode; o.Done != (o.exit == 0) {
		s.tb.Errorf("exit code %d: %s", o.exit, reply.Body)
	}
	return o
}

// seen are the instances that status shows.
type seen []struct {
	PID         int
	State       string
	Connections *int
	Build       string
	Log         string
	RSS         int   `json:"rss_bytes"`
	Idle        int64 `json:"idle_since_unix_ms"`
	Busy        bool
	Differs     []string `json:"differs_in"`
}

func (s *site) instances() (all seen) {
	s.tb.Helper()
	var v struct{ Instances seen }
	if err := json.Unmarshal([]byte(s.admin(wire.AdminVerb_ADMIN_VERB_STATUS, nil).Body), &v); err != nil {
		s.tb.Fatal(err)
	}
	return v.Instances
}

// stay opens a connection to the instance of a version; what it returns asks on it.
func (s *site) stay(version string) (c net.Conn, ask func() string) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := client.Dial(ctx, client.Options{Service: demo, Version: version, Broker: s.Socket()})
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	lines := bufio.NewReader(conn)
	return conn, func() string {
		s.tb.Helper()
		if _, err := fmt.Fprintln(conn, "who"); err != nil {
			s.tb.Fatal(err)
		}
		line, err := lines.ReadString('\n')
		if err != nil {
			s.tb.Fatal(err)
		}
		return line
	}
}

func pidOf(t *testing.T, answer string) int {
	t.Helper()
	pid, err := strconv.Atoi(word(answer, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	testutil.WaitFor(t, "its process has ended", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}

// TestRestart: a new instance serves before the old one goes, which serves its connection
// to the end, and is seen until then.
func TestRestart(t *testing.T) {
	s := starting(t, "max_instances = 1", "")
	conn, ask := s.stay(demoVersion)
	old := pidOf(t, ask())
	second, _ := s.stay(demoVersion)
	testutil.WaitFor(t, "its connections are known", func() bool {
		all := s.instances()
		return len(all) == 1 && all[0].Connections != nil && *all[0].Connections == 2 && all[0].Idle == 0
	})
	o := s.control(verbRestart, "", 0)
	if o.results() != "started drains" || o.Instances[1].PID != old || !strings.Contains(o.Instances[1].Text, "serves 2 connections") {
		t.Fatalf("got %+v", o)
	}
	if next := pidOf(t, s.mustAsk(demoVersion)); next != o.Instances[0].PID || next == old {
		t.Errorf("process %d serves, of %+v", next, o)
	}
	if still := pidOf(t, ask()); still != old {
		t.Errorf("the old connection is with %d, not %d", still, old)
	}
	_ = second.Close()
	all := s.instances()
	if len(all) != 2 || all[0].State != "draining" || all[0].PID != old || all[1].State != "ready" || all[1].RSS == 0 || all[1].Build == "" ||
		all[1].Log != filepath.Join(s.dir, "logs", demo+".log") {
		t.Errorf("got %+v", all)
	}
	testutil.WaitFor(t, "it tells that one of two connections has ended", func() bool {
		all := s.instances()
		return all[0].Connections != nil && *all[0].Connections == 1
	})
	_ = conn.Close()
	awaitEnd(t, old)
	testutil.WaitFor(t, "it is not shown any more", func() bool { return len(s.instances()) == 1 })
	if o := s.control(verbRestart, "9.9.9", 0); o.exit != 0 || !strings.Contains(o.Text[0], "nothing to restart") {
		t.Errorf("got %+v", o)
	}
}

// TestRestartFails: the old instance stays, and the answer says how the new one ended.
func TestRestartFails(t *testing.T) {
	s := starting(t, "", "")
	old := pidOf(t, s.mustAsk(demoVersion))
	s.defineStart(ownBinary(t), "", "exits")
	o := s.control(verbRestart, demoVersion, 0)
	if o.exit != 1 || o.results() != "kept" || o.Instances[0].PID != old {
		t.Fatalf("got %+v", o)
	}
	for _, part := range []string{"exited with code 1", "can't serve", "its log is " + s.dir} {
		if !strings.Contains(o.Instances[0].Text, part) {
			t.Errorf("%q is not in %s", part, o.Instances[0].Text)
		}
	}
	if now := pidOf(t, s.mustAsk(demoVersion)); now != old {
		t.Errorf("process %d serves, not %d", now, old)
	}
}

// TestStop: the answer comes when the processes have ended, or says which still serve.
func TestStop(t *testing.T) {
	s := starting(t, "", "")
	conn, ask := s.stay("1.0.0")
	busy, idle := pidOf(t, ask()), pidOf(t, s.mustAsk("2.0.0"))
	testutil.WaitFor(t, "its connection is known", func() bool {
		all := s.instances()
		return len(all) == 2 && all[0].Connections != nil && *all[0].Connections == 1
	})
	if o := s.control(verbStop, "2.0.0", 0); o.exit != 0 || o.results() != "ended" || o.Instances[0].PID != idle || !strings.Contains(o.Text[0], "the next client starts") {
		t.Errorf("got %+v", o)
	}
	awaitEnd(t, idle)
	o := s.control(verbStop, "", 100*time.Millisecond)
	if o.exit != 1 || o.results() != "drains" || o.Instances[0].PID != busy || *o.Instances[0].Connections != 1 {
		t.Errorf("got %+v", o)
	}
	done := make(chan outcome)
	go func() { done <- s.control(verbStop, "1.0.0", patience) }() // waits for those that drain already
	testutil.WaitFor(t, "it waits", func() bool { return s.Controls() == 1 })
	if got := pidOf(t, ask()); got != busy {
		t.Errorf("the connection is with %d", got)
	}
	_ = conn.Close()
	if o := <-done; o.exit != 0 || o.results() != "ended" {
		t.Errorf("got %+v", o)
	}
	if again := pidOf(t, s.mustAsk("1.0.0")); again == busy {
		t.Errorf("the stopped instance serves")
	}
	if o := s.control(verbStop, "9.9.9", 0); o.exit != 0 || !strings.Contains(o.Text[0], "no instance") {
		t.Errorf("got %+v", o)
	}
}

// TestStopWhileStarting: nothing is left of an instance that is not ready yet.
func TestStopWhileStarting(t *testing.T) {
	s := starting(t, "", "hangs")
	failed := make(chan error)
	go func() {
		_, err := s.who(demoVersion)
		failed <- err
	}()
	testutil.WaitFor(t, "it is being started", func() bool {
		all := s.instances()
		return len(all) == 1 && all[0].State == "starting" && all[0].PID != 0
	})
	pid := s.instances()[0].PID
	if o := s.control(verbStop, "", 0); o.exit != 0 || o.results() != "ended" {
		t.Errorf("got %+v", o)
	}
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "was stopped before it was ready") {
		t.Errorf("got %v", err)
	}
	awaitEnd(t, pid)
}

// TestByHand: a backend that nobody here has started is told to go, and the answer says
// who brings it back.
func TestByHand(t *testing.T) {
	s := newSite(t, nil)
	l := s.listen(demoVersion)
	o := s.control(verbRestart, "", 0)
	if o.exit != 0 || o.results() != "drains" || !strings.Contains(o.Instances[0].Text, "by hand") {
		t.Errorf("got %+v", o)
	}
	<-l.Done()
	testutil.WaitFor(t, "it has left", func() bool { return s.Backends() == 0 })
}

// TestPause: clients wait, as many as there is room for, and are served once the service
// goes on; one whose time is over is told why.
func TestPause(t *testing.T) {
	s := starting(t, "", "")
	conn, ask := s.stay(demoVersion)
	old := pidOf(t, ask())
	if o := s.control(verbPause, "", 0); o.exit != 0 || !strings.Contains(o.Text[0], "is paused") {
		t.Fatalf("got %+v", o)
	}
	const clients = 8
	answers := make([]string, clients)
	var wg sync.WaitGroup
	for n := range answers {
		wg.Go(func() {
			var err error
			if answers[n], err = s.who(demoVersion); err != nil {
				t.Error(err)
			}
		})
	}
	s.clientsWait(clients + 1) // and the one for whom the instance was started
	if got := pidOf(t, ask()); got != old {
		t.Errorf("the connection is with %d", got)
	}
	_ = conn.Close()
	if o := s.control(verbStop, "", 0); o.exit != 0 || o.results() != "ended" {
		t.Errorf("got %+v", o)
	}
	if o := s.control(verbResume, "", 0); o.exit != 0 || !strings.Contains(o.Text[0], "8 clients had waited") {
		t.Errorf("got %+v", o)
	}
	wg.Wait()
	for _, answer := range answers {
		if pidOf(t, answer) == old {
			t.Errorf("got %q", answer)
		}
	}
	if o := s.control(verbResume, "", 0); o.exit != 0 || !strings.Contains(o.Text[0], "is not paused") {
		t.Errorf("got %+v", o)
	}
}

// TestPauseIsBounded: by number, and by each client's own deadline.
func TestPauseIsBounded(t *testing.T) {
	s := newSite(t, func(o *options) { o.MaxHandshakes, o.MaxHandshakesPerPeer = 32, 1000 })
	s.listen(demoVersion)
	s.control(verbPause, demoVersion, 0)
	s.SetHelloTimeout(time.Hour)
	var all []net.Conn
	for range 8 {
		c := s.dial()
		send(t, c, helloFor(t, usherClient, nil))
		all = append(all, c)
	}
	s.clientsWait(8)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	if refused := readRefusal(t, c, wire.ErrorCode_ERROR_RATE_LIMITED, "service "+demo+" is paused"); refused.RetryAfterMs == 0 {
		t.Errorf("got %v", refused)
	}
	s.control(verbResume, "", 0)
	for _, c := range all {
		readHandedOver(t, c)
	}
	s.control(verbPause, demoVersion, 0)
	s.SetHelloTimeout(time.Second)
	c = s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readRefusal(t, c, wire.ErrorCode_ERROR_RATE_LIMITED, "service "+demo+" is paused")
	s.control(verbResume, "", 0)
	checkEcho(t, s.handedOver())
}

// handedOver is a connection that a backend has.
func (s *site) handedOver() net.Conn {
	s.tb.Helper()
	c := s.dial()
	send(s.tb, c, helloFor(s.tb, usherClient, nil))
	readHandedOver(s.tb, c)
	return c
}

// TestDrainIsNotLost: one whose channel is full when it is let go is told once it reads.
func TestDrainIsNotLost(t *testing.T) {
	s := newSite(t, nil)
	answer, ch, err := register(s.Socket(), &wire.Register{
		ServiceName: demo, ServiceVersion: demoVersion, BackendPipe: s.pipe("full"), Capabilities: frame.CapUnknownMessages,
	})
	if err != nil || !answer.Accepted {
		t.Fatalf("%v, %v", answer, err)
	}
	s.later = append(s.later, func() { _ = ch.Close() })
	_ = ch.SetDeadline(time.Now().Add(patience))
	testutil.WaitFor(t, "its channel is full", func() bool {
		for range 16 {
			send(t, s.dial(), helloFor(t, usherClient, nil))
		}
		return readStatus(t, s).Handoffs.NotTaken > 0
	})
	if o := s.control(verbStop, "", 20*time.Millisecond); o.results() != "drains" {
		t.Errorf("got %+v", o)
	}
	offers := 0
	for _, handoffs := s.Pending(); offers < handoffs-1; offers++ { // what was sent before
		msg, err := ch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		msg.FDs.Close()
	}
	nack, err := frame.Append(nil, frame.ChannelAck(&wire.Ack{Reason: wire.NackReason_NACK_REASON_CLAIM_LOST}))
	if err == nil {
		err = ch.Send(nack) // as one that wakes up does
	}
	if err != nil {
		t.Fatal(err)
	}
	msg, err := ch.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if f, err := msg.Frame(); err != nil || frame.ParseChannelNote(f) == nil || frame.ParseChannelNote(f).Kind != wire.NoteKind_NOTE_KIND_DRAIN {
		t.Errorf("after %d offers it is told %v, %v", offers, f, err)
	}
	_ = ch.Close()
}

// TestControlEndsWithTheBroker: what waits for an instance is answered when the broker ends,
// and the instance serves on.
func TestControlEndsWithTheBroker(t *testing.T) {
	s := newSite(t, func(o *options) { o.LogDir = filepath.Join(filepath.Dir(o.Socket), "logs") })
	s.defineStart(ownBinary(t), "", "")
	conn, ask := s.stay(demoVersion)
	pid := pidOf(t, ask())
	done := make(chan outcome)
	go func() { done <- s.control(verbStop, "", time.Minute) }()
	testutil.WaitFor(t, "it waits", func() bool { return s.Controls() == 1 })
	s.stop()
	if o := <-done; o.exit != 1 || o.results() != "drains" {
		t.Errorf("got %+v", o)
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if got := pidOf(t, ask()); got != pid {
		t.Errorf("the connection is with %d", got)
	}
	_ = conn.Close()
	testutil.WaitFor(t, "its process has ended", func() bool { // which this one has to reap, now
		ended, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		return ended == pid || err != nil
	})
}

// TestNoUpgradeMeanwhile: a pause, and a verb that waits, are the broker's own, so it is not
// replaced until they are over.
func TestNoUpgradeMeanwhile(t *testing.T) {
	s := newSite(t, upgradable)
	s.listen(demoVersion)
	refused := func(why string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := s.Upgrade(ctx); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("got %v", err)
		}
	}
	s.control(verbPause, "", 0)
	refused("service demo-svc is paused")
	s.control(verbResume, "", 0)
	done := make(chan outcome)
	go func() { done <- s.control(verbStop, "", patience) }()
	testutil.WaitFor(t, "it waits", func() bool { return s.Controls() == 1 })
	refused("under way")
	s.stop()
	if o := <-done; o.exit == 0 {
		t.Errorf("got %+v", o)
	}
	_ = s.end()
}
