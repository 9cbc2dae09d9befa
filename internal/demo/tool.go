package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-7265657e/usher"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/world"
)

// toolPrefix begins the name of the demo's tool.
const toolPrefix = "usher-demo"

// toolNamed is a tool in one binary: this very executable, of which the demo makes copies. Its
// idle time is long enough for a busy machine, and short enough to wait for.
func toolNamed(name string) *usher.Tool {
	return &usher.Tool{Name: name, Version: "1.0.0", Serve: serveTool, IdleTimeout: time.Second}
}

// ToolMain is Main of the demo's tool: in a process that was started as its broker or
// daemon it serves, and ends the process.
func ToolMain() {
	name, role := os.Getenv(launch.ToolVariable), os.Getenv(launch.RoleVariable)
	if role != "" && strings.HasPrefix(name, toolPrefix) && world.NoteStart(name, role) {
		toolNamed(name).Main()
	}
}

// toolAnswer is the daemon's answer to a line.
type toolAnswer struct {
	ID  string `json:"id"`  // the line
	By  int    `json:"by"`  // the daemon's process
	Ran int    `json:"ran"` // lines that it has answered, this one included
}

func serveTool(_ context.Context, ln net.Listener) error {
	var ran atomic.Int64
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = c.Close() }()
			answers := json.NewEncoder(c)
			for lines := bufio.NewScanner(c); lines.Scan(); {
				if answers.Encode(toolAnswer{lines.Text(), os.Getpid(), int(ran.Add(1))}) != nil {
					return
				}
			}
		}()
	}
}

// RunToolClient calls the daemon of the tool of that name for the errands that it reads from
// in, until that ends. What became of them are lines on out.
func RunToolClient(ctx context.Context, name string, in io.Reader, out io.Writer) error {
	c := &toolClient{tool: toolNamed(name)}
	defer c.hangUp()
	return world.Converse(in, out, func(e errands) (event, error) { return event{Result: c.run(ctx, e)}, ctx.Err() })
}

// toolClient is one client process of the tool.
type toolClient struct {
	tool *usher.Tool
	conn net.Conn // nil: none is kept
	in   *json.Decoder
}

func (c *toolClient) run(ctx context.Context, e errands) *tally {
	t := &tally{Requests: e.Requests}
	for n := range e.Requests {
		if c.conn == nil {
			t.Connections++
		}
		a, err := c.request(ctx, fmt.Sprintf("%s-%d", e.Prefix, n))
		t.count(client.HandedOver, a.By, err) // the tool's daemons have no other way
		t.Ran = max(t.Ran, a.Ran)
		if err != nil || !e.Session {
			c.hangUp()
		}
	}
	return t
}

func (c *toolClient) request(ctx context.Context, id string) (a toolAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if c.conn == nil {
		if c.conn, err = c.tool.DialWith(ctx, []byte(id+"\n")); err != nil {
			return a, err
		}
		c.in = json.NewDecoder(c.conn)
	} else if _, err := fmt.Fprintln(c.conn, id); err != nil {
		return a, err
	}
	by, _ := ctx.Deadline()
	if err := c.conn.SetDeadline(by); err != nil {
		return a, err
	}
	if err := c.in.Decode(&a); err != nil {
		return a, err
	}
	if a.ID != id {
		return a, fmt.Errorf("%w to %s: %s", errWrong, id, a.ID)
	}
	return a, nil
}

func (c *toolClient) hangUp() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// callers is how many clients call the tool at once.
const callers = 64

// placeTool puts a build of the tool where its clients start it.
func (s *stage) placeTool(build string) error {
	return world.PlaceExecutable(s.toolPath(), s.opts.Program, build)
}

func (s *stage) toolPath() string { return s.Executable("tool") }

func (s *stage) toolName() string { return s.ToolName(toolPrefix) }

// started are the processes that were started in a role of the tool.
func (s *stage) started(role string) []int { return s.Started(s.toolName(), role) }

func (s *stage) startToolClient(ctx context.Context, name string) (*world.Process, error) {
	p, err := s.Start(world.Command{Name: name, Args: []string{s.toolPath(), "demo-role", "tool-client", "--tool", s.toolName()}})
	if err != nil {
		return nil, err
	}
	return p, p.Ready(ctx)
}

// fromNothing plays with a tool of which nothing runs, and nothing will.
func (s *stage) fromNothing(play func() (string, error)) (detail string, err error) {
	if err := s.CountStarts(s.toolName()); err != nil {
		return "", err
	}
	if err := s.placeTool("first build"); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.endDetached()) }()
	return play()
}

// endDetached ends the brokers and daemons that have been started by others.
func (s *stage) endDetached() error {
	known := append(s.started(launch.RoleBroker), s.started(launch.RoleDaemon)...)
	return s.EndDetached(append(known, s.successors...)...)
}

// oneBinary has the first calls of a tool come at once.
func (s *stage) oneBinary(ctx context.Context) (string, error) {
	return s.fromNothing(func() (detail string, err error) {
		clients := make([]*world.Process, callers)
		for n := range clients {
			if clients[n], err = s.startToolClient(ctx, fmt.Sprintf("tool-client-%d", n)); err != nil {
				return "", err
			}
			defer func() { err = errors.Join(err, clients[n].Quit()) }()
		}
		e := errands{Requests: 1, Prefix: "one-binary", Session: true}
		began := time.Now()
		for _, c := range clients {
			if err := c.Tell(e); err != nil {
				return "", err
			}
		}
		failures, ran := 0, 0
		daemons := make(map[int]struct{})
		for _, c := range clients {
			t := s.result(ctx, c, e)
			failures += t.Requests - t.answered() + t.Wrong
			ran = max(ran, t.Ran)
			daemons[t.onlyBy()] = struct{}{}
			err = errors.Join(err, t.allAnswered())
		}
		slowest := time.Since(began)
		b, d := len(s.started(launch.RoleBroker)), len(s.started(launch.RoleDaemon))
		return fmt.Sprintf("a tool in one binary, called by %d processes at once from nothing: %d broker and %d daemon started, %d failures; the slowest had its answer in %d ms",
				callers, b, d, failures, slowest.Milliseconds()),
			errors.Join(err,
				check(b == 1 && d == 1 && len(daemons) == 1, "%d brokers and %d daemons started, %d of them answered", b, d, len(daemons)),
				check(ran == callers, "%d requests ran %d times", callers, ran))
	})
}

// replacedBuild replaces the tool's file while a connection is open.
func (s *stage) replacedBuild(ctx context.Context) (string, error) {
	return s.fromNothing(func() (detail string, err error) {
		old, err := s.startToolClient(ctx, "old-client")
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, old.Quit()) }()
		first := s.run(ctx, old, errands{Requests: 1, Prefix: "before", Session: true})
		if err := s.placeTool("second build"); err != nil {
			return "", err
		}
		fresh, err := s.startToolClient(ctx, "new-client")
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, fresh.Quit()) }()
		began := time.Now()
		next := s.run(ctx, fresh, errands{Requests: 1, Prefix: "replaced", Session: true})
		took := time.Since(began)
		kept := s.run(ctx, old, errands{Requests: 1, Prefix: "kept", Session: true})
		if err := errors.Join(first.allAnswered(), next.allAnswered(), kept.allAnswered(), old.Quit()); err != nil {
			return "", err
		}
		began = time.Now()
		if err := world.Until(ctx, "the old build's daemon has ended", func() (bool, error) { return world.Ended(first.onlyBy()), nil }); err != nil {
			return "", err
		}
		ended := time.Since(began)
		last := s.run(ctx, fresh, errands{Requests: 1, Prefix: "after", Session: true})
		b, d := len(s.started(launch.RoleBroker)), len(s.started(launch.RoleDaemon))
		return fmt.Sprintf("its file replaced while a connection is open: the next call answered by the new build in %d ms, the broker replaced by it, the old connection by the old daemon, which ended %d ms after it",
				took.Milliseconds(), ended.Milliseconds()),
			errors.Join(last.allAnswered(),
				check(next.onlyBy() != first.onlyBy() && last.onlyBy() == next.onlyBy(), "the old build's daemon answered the new build"),
				check(kept.Connections == 0 && kept.onlyBy() == first.onlyBy(), "the old connection did not stay with the old daemon"),
				check(b == 2 && d == 2, "%d brokers and %d daemons started, want one of each build", b, d))
	})
}
