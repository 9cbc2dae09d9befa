package broker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// loaded are clients that ask a service without a pause, half of them by Hello, half at its
// plain socket. Each has an answer, or an error in its time.
type loaded struct {
	s          *site
	kind, path string
	served     atomic.Int64
	refused    sync.Map // by text
	over       atomic.Bool
	clients    sync.WaitGroup
}

func (s *site) load(kind, path string) *loaded {
	l := &loaded{s: s, kind: kind, path: path}
	for n := range 4 {
		l.clients.Go(func() {
			for !l.over.Load() {
				l.ask(n%2 == 0 || kind == "v1")
			}
		})
	}
	return l
}

// ask asks who serves; a failure that a client may not have is the test's.
func (l *loaded) ask(hello bool) {
	c, err := l.dial(hello)
	var line string
	if err == nil {
		_ = c.SetDeadline(time.Now().Add(patience))
		if l.kind == "v1" {
			_, err = io.WriteString(c, "who\n")
		}
		if err == nil {
			line, err = bufio.NewReader(c).ReadString('\n')
		}
		_ = c.Close()
	}
	var refused *client.RefusedError
	var late net.Error
	switch {
	case err == nil && word(line, "pid") != "":
		l.served.Add(1)
	case errors.As(err, &refused):
		l.refused.Store(refused.Error(), true)
		if !strings.Contains(refused.Error(), demo) || !names(refused.Error(), "exited with", "ended by signal", "was stopped", "does not answer", "can't be started") {
			l.s.tb.Errorf("the refusal does not say what has become of the program: %v", refused)
		}
	case errors.As(err, &late) && late.Timeout(), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		l.s.tb.Errorf("no answer in %v: %v", patience, err)
	}
}

func (l *loaded) dial(hello bool) (net.Conn, error) {
	if !hello {
		return net.Dial("unix", l.path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return client.Dial(ctx, client.Options{Service: demo, Version: demoVersion, Broker: l.s.Socket()})
}

func names(text string, any ...string) bool {
	for _, part := range any {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// end ends the load, and everything that serves it.
func (l *loaded) end() {
	l.over.Store(true)
	l.clients.Wait()
	_ = l.s.control(verbStop, "", patience)
	testutil.WaitFor(l.s.tb, "no process is left", func() bool { return l.s.Processes()+l.s.Backends() == 0 })
}

// TestProgramsUnderLoad: programs of each kind are killed, frozen and killed, and restarted,
// under clients that ask without a pause. Those whose program has gone see the end of their
// connection, or a refusal that names the program and its exit; nobody waits in vain; and in
// the end the service serves, or says why not.
func TestProgramsUnderLoad(t *testing.T) {
	kill := func(s *site, pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }
	for name, fault := range map[string]func(s *site, pid int){
		"kill": kill,
		"freeze": func(s *site, pid int) {
			_ = syscall.Kill(pid, syscall.SIGSTOP)
			for range 3 {
				_ = s.instances()
			}
			kill(s, pid)
		},
		"restart": func(s *site, _ int) { _ = s.control(verbRestart, "", patience) },
		"stop":    func(s *site, _ int) { _ = s.control(verbStop, "", patience) },
	} {
		for _, kind := range everyKind {
			t.Run(name+" "+kind, func(t *testing.T) {
				s, path := programs(t, kind)
				if kind == "relay" { // whose address nobody has to remove
					address := freePort(t)
					s.write(demo+".toml", listening(t, "", fmt.Sprintf("[start]\nmode = \"relay\"\naddress = %q\nlisten = %q", address, path), address))
				}
				first, _ := s.meet(kind, path)
				_ = first.Close()
				l := s.load(kind, path)
				defer l.end()
				for range 8 {
					c, err := l.dial(kind == "v1")
					if err != nil {
						continue // it says why, as it does to the others
					}
					_ = c.SetDeadline(time.Now().Add(patience))
					if kind == "v1" {
						_, _ = io.WriteString(c, "who\n")
					}
					line, err := bufio.NewReader(c).ReadString('\n')
					if err != nil {
						_ = c.Close()
						continue
					}
					fault(s, pidOf(t, line))
					if name != "restart" || kind != "inetd" && kind != "stdio" { // else it is served to its end
						if rest, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
							t.Errorf("its client sees no end: %q, %v", rest, err)
						}
					}
					_ = c.Close()
				}
				before := l.served.Load()
				testutil.WaitFor(t, "it serves again, or says why not", func() bool {
					served := l.served.Load() > before
					l.refused.Range(func(any, any) bool { served = true; return false })
					return served
				})
			})
		}
	}
}

// TestFrozenStart: a program that is frozen before it listens is ended, and who waited for it
// is told.
func TestFrozenStart(t *testing.T) {
	s, path := programs(t, "relay")
	own := filepath.Join(s.dir, "own")
	s.write(demo+".toml", listening(t, "frozen", fmt.Sprintf("[start]\nmode = \"relay\"\naddress = %q\nlisten = %q\ntimeout = \"200ms\"", own, path), own))
	if _, err := s.once(); err == nil || !strings.Contains(err.Error(), "was not ready in 200ms, and was ended") {
		t.Errorf("got %v", err)
	}
	if got, err := io.ReadAll(s.awaitSocket(path)); len(got) > 0 || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestInetdCrowd: of ten times more clients than may have a process at once, as many wait as
// there is room for; the others are told at once, and those who wait in vain when their time is
// over, how many there may be and when to come again. Nothing is left of any.
func TestInetdCrowd(t *testing.T) {
	const most, crowd, room = 4, 40, 16
	for name, wait := range map[string]time.Duration{"in vain": 100 * time.Millisecond, "served": patience} {
		t.Run(name, func(t *testing.T) {
			s := inetd(t, "", func(o *options) { o.BackendWait, o.MaxHandshakes = wait, 4*room })
			s.write(demo+".toml", fmt.Sprintf("binary_path = \"/bin/cat\"\n[start]\nmode = \"inetd\"\nmax_instances = %d\n", most)) // it is soon started
			before := testutil.Children(t, os.Getpid())                                                                             // of other tests
			var holders []net.Conn
			for range most {
				c := s.mustDialWith("held\n")
				if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
					t.Fatal(err)
				}
				holders = append(holders, c)
			}
			refused := make(chan bool, crowd)
			var all sync.WaitGroup
			raw := helloFor(t, usherClient, nil)
			for range crowd {
				c := s.dial()
				all.Go(func() {
					send(t, c, raw)
					_, reply := readReply(t, c)
					_ = c.CloseWrite()
					if _, err := io.ReadAll(c); err != nil {
						t.Error(err)
					}
					r := reply.Refused
					if r != nil && (r.Code != wire.ErrorCode_ERROR_RATE_LIMITED || r.Reason != fmt.Sprintf("all %d processes that the service may have are busy", most) || r.RetryAfterMs != 1000) {
						t.Errorf("got %v", r)
					}
					refused <- r != nil
				})
			}
			n := 0
			for n < crowd-room { // at once
				if !<-refused {
					t.Error("served while there was no room")
				}
				n++
			}
			if name == "served" {
				testutil.WaitFor(t, "the others wait", func() bool { c, _ := s.Pending(); return c == room })
				for _, c := range holders {
					_ = c.Close()
				}
			}
			all.Wait()
			for ; n < crowd; n++ {
				if got := <-refused; got != (name == "in vain") {
					t.Errorf("refused: %v", got)
				}
			}
			for _, c := range holders {
				_ = c.Close()
			}
			testutil.WaitFor(t, "no process is left, no zombie either", func() bool {
				left := slices.DeleteFunc(testutil.Children(t, os.Getpid()), func(pid int) bool { return slices.Contains(before, pid) })
				return s.Processes()+len(left) == 0
			})
		})
	}
}
