package broker_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// program is one that the test's word passes: a process, and what travels.
func (p *predecessor) program() (running *exec.Cmd, b *wire.PassedBackend, process *sock.FD) {
	p.tb.Helper()
	running = exec.Command("sleep", "1000")
	running.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := running.Start(); err != nil {
		p.tb.Fatal(err)
	}
	p.tb.Cleanup(func() {
		_ = running.Process.Kill()
		_ = running.Wait()
	})
	handle, err := peer.OpenPID(running.Process.Pid)
	if err != nil {
		p.tb.Fatal(err)
	}
	defer handle.Close()
	if process, err = handle.Share(); err != nil {
		p.tb.Fatal(err)
	}
	p.tb.Cleanup(process.Close)
	return running, &wire.PassedBackend{
		Instance: "shared", Service: demo, Version: demoVersion, ExePath: "/bin/sleep", ExeHash: make([]byte, 32), SinceMs: 1, Address: "/nonexistent",
	}, process
}

func (p *predecessor) sayProgram(b *wire.PassedBackend, with ...sock.Lender) {
	p.tb.Helper()
	p.say(&wire.Handover{Kind: wire.HandoverKind_HANDOVER_KIND_PROGRAM, Backend: wire.Marshal(b)}, with...)
}

// TestProgramThatIsLost: a broker to which a program comes incompletely does not begin, for its
// predecessor has that program still. It does when the predecessor has ended.
func TestProgramThatIsLost(t *testing.T) {
	testutil.Needs(t, "pidfds, which are passed on with a program")
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	no, err := sock.Duplicate(null)
	if err != nil {
		t.Fatal(err)
	}
	defer no.Close()
	for name, change := range map[string]func(b *wire.PassedBackend, process *sock.FD) []sock.Lender{
		"no process": func(*wire.PassedBackend, *sock.FD) []sock.Lender { return nil },
		"no pidfd":   func(*wire.PassedBackend, *sock.FD) []sock.Lender { return []sock.Lender{no} },
		"one too many": func(_ *wire.PassedBackend, process *sock.FD) []sock.Lender {
			return []sock.Lender{process, no}
		},
		"no pipe": func(b *wire.PassedBackend, process *sock.FD) []sock.Lender {
			b.Alone, b.Joined = true, true
			return []sock.Lender{process}
		},
		"nothing behind": func(b *wire.PassedBackend, process *sock.FD) []sock.Lender {
			b.Alone, b.Behind = true, true
			return []sock.Lender{process}
		},
		"pipes of all": func(b *wire.PassedBackend, process *sock.FD) []sock.Lender {
			b.Joined = true
			return []sock.Lender{process, no}
		},
		"a short hash": func(b *wire.PassedBackend, process *sock.FD) []sock.Lender {
			b.ExeHash = b.ExeHash[1:]
			return []sock.Lender{process}
		},
		"no service": func(b *wire.PassedBackend, process *sock.FD) []sock.Lender {
			b.Service = ""
			return []sock.Lender{process}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, nil)
			next, first := successorOf(t, s, true, nil)
			next.serve()
			first.ready()
			_, b, process := first.program()
			first.sayProgram(b, change(b, process)...)
			first.leave()
			if h := first.hear(); h.Kind != wire.HandoverKind_HANDOVER_KIND_FAILED || h.Reason == "" || next.Begun() {
				t.Errorf("it says %v, and has begun: %t", h, next.Begun())
			}
			_ = first.ch.Close()
			testutil.WaitFor(t, "it begins behind its predecessor", next.Begun)
			next.stop()
			_ = next.end()
		})
	}
}

// TestProgramsOfTheDead: a program that has ended when it comes is none, and nor is one whose
// socket has not come: that is ended.
func TestProgramsOfTheDead(t *testing.T) {
	testutil.Needs(t, "pidfds, which are passed on with a program")
	s := newSite(t, nil)
	next, first := successorOf(t, s, true, nil)
	next.serve()
	first.ready()
	dead, b, process := first.program()
	_ = dead.Process.Kill()
	_ = dead.Wait()
	first.sayProgram(b, process)
	alone, b, process := first.program()
	b.Address, b.Listen = "", "/nonexistent"
	first.sayProgram(b, process)
	first.leave()
	if h := first.hear(); h.Kind != wire.HandoverKind_HANDOVER_KIND_TAKEN {
		t.Errorf("it says %v", h)
	}
	handle, err := peer.OpenPID(alone.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	testutil.WaitFor(t, "the one without a socket has ended", func() bool { return !handle.Alive() })
	if err := alone.Wait(); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("the one without a socket: %v", err)
	}
	testutil.WaitFor(t, "its end is known", func() bool { return next.Backends()+next.Leaving() == 0 })
	next.stop()
	_ = next.end()
}

// TestProgramsStayThePredecessors: a broker that ends before it has begun touches no program.
func TestProgramsStayThePredecessors(t *testing.T) {
	testutil.Needs(t, "pidfds, which are passed on with a program")
	s := newSite(t, nil)
	next, first := successorOf(t, s, true, nil)
	next.serve()
	first.ready()
	running, b, process := first.program()
	first.sayProgram(b, process)
	testutil.WaitFor(t, "it has been read", func() bool { return next.ProgramsGiven() == 1 })
	next.stop()
	_ = next.end()
	handle, err := peer.OpenPID(running.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	if !handle.Alive() {
		t.Error("the program has ended")
	}
}
