package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-7265657e/usher/bench/cfloor"
	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/service"
)

const socketVariable = endpoint.SocketVariable

// site is a private directory and what runs in it.
type site struct {
	program string
	dir     string
	env     []string
	floor   string                    // the C floor's program; empty without a compiler
	claims  cfloor.Claims             // of the C floor
	noFloor error                     // why it is empty
	tracer  func(who string) []string // what runs usher's processes, in tests
}

func newSite(ctx context.Context, program string, claims cfloor.Claims) (*site, error) {
	dir, err := os.MkdirTemp("", "ub")
	if err != nil {
		return nil, err
	}
	s := &site{program: program, dir: dir, claims: claims}
	if endpoint.CheckLength(filepath.Join(dir, "cfloor-pipe.sock")) != nil { // a deep TMPDIR
		_ = os.Remove(dir)
		if s.dir, err = os.MkdirTemp("/tmp", "ub"); err != nil {
			return nil, err
		}
	}
	if s.env, err = Surroundings(s.dir, serviceName, program); err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.floor, s.noFloor = cfloor.Build(ctx, s.dir)
	return s, ctx.Err()
}

// Surroundings makes in dir what usher's processes need: a definition of the service
// with program as its binary. It returns the environment to run them in, which the
// user's own settings do not reach.
func Surroundings(dir, name, program string) (env []string, err error) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "RUNNING_PROCESS_") && !strings.HasPrefix(v, "XDG_") {
			env = append(env, v)
		}
	}
	definitions := filepath.Join(dir, "services")
	_, err = service.Save(definitions, &brokerpb.ServiceDefinition{
		ServiceName: name, BinaryPath: program, Isolation: brokerpb.BrokerIsolation_SHARED_BROKER,
	}, service.TOML)
	return append(env, "XDG_RUNTIME_DIR="+dir, "XDG_CONFIG_HOME="+dir, "XDG_STATE_HOME="+dir,
		endpoint.ServiceDefVariable+"="+definitions), err
}

func (s *site) close() error { return os.RemoveAll(s.dir) }

// proc is a child process in one of the roles.
type proc struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *json.Encoder
	dec *json.Decoder
	who string
}

func (s *site) start(ctx context.Context, env []string, who string, args ...string) (*proc, error) {
	command := []string{s.program}
	if s.tracer != nil {
		command = append(s.tracer(who), command...)
	}
	command = append(append(command, "bench-role", who), args...)
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env, cmd.Dir, cmd.Stderr = append(s.env, env...), s.dir, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &proc{cmd: cmd, in: in, enc: json.NewEncoder(in), dec: json.NewDecoder(out), who: who}
	var ready hail
	if err := p.dec.Decode(&ready); err != nil {
		return nil, errors.Join(fmt.Errorf("%s did not start: %w", who, err), p.stop())
	}
	return p, nil
}

func (p *proc) pid() int { return p.cmd.Process.Pid }

// ask sends a question and reads its answer. A process that does not answer ends
// with its context.
func (p *proc) ask(question, answer any) error {
	err := p.enc.Encode(question)
	if err == nil {
		err = p.dec.Decode(answer)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.who, err)
	}
	return nil
}

const stopTimeout = 10 * time.Second

// stop ends the process and waits for its end.
func (p *proc) stop() error {
	_ = p.in.Close()
	killer := time.AfterFunc(stopTimeout, func() { _ = p.cmd.Process.Kill() })
	defer killer.Stop()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", p.who, err)
	}
	return nil
}

// world is one set of processes: a client, usher with inline and with plain
// backends, and the C floor.
type world struct {
	client                   *proc
	inline, plain            target
	inlineBroker, inlineBack *proc
	all                      []*proc
	floor                    *cfloor.Floor // nil without one
}

func (s *site) raise(ctx context.Context) (w *world, err error) {
	w = &world{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.end())
		}
	}()
	add := func(p *proc, startErr error) *proc {
		if startErr == nil {
			w.all = append(w.all, p)
		}
		err = errors.Join(err, startErr)
		return p
	}
	w.inline = target{filepath.Join(s.dir, "i.sock"), filepath.Join(s.dir, "ip.sock")}
	w.plain = target{filepath.Join(s.dir, "p.sock"), filepath.Join(s.dir, "pp.sock")}
	for _, t := range []target{w.inline, w.plain} {
		env := []string{socketVariable + "=" + t.Socket}
		b := add(s.start(ctx, env, "broker"))
		if err != nil {
			return nil, err
		}
		args := []string{"--pipe", t.Pipe}
		if t == w.inline {
			args = append(args, "--inline")
		}
		k := add(s.start(ctx, env, "backend", args...))
		if t == w.inline {
			w.inlineBroker, w.inlineBack = b, k
		}
	}
	w.client = add(s.start(ctx, nil, "client"))
	if err == nil && s.floor != "" {
		w.floor, err = cfloor.Start(ctx, s.floor, s.dir, s.claims)
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

// end stops every process, the client first.
func (w *world) end() error {
	var errs []error
	for i := len(w.all) - 1; i >= 0; i-- {
		errs = append(errs, w.all[i].stop())
	}
	if w.floor != nil {
		errs = append(errs, w.floor.Close())
	}
	return errors.Join(errs...)
}

func (w *world) floorTarget() target { return target{w.floor.Socket, w.floor.Pipe} }
