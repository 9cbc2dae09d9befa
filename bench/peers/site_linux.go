package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/bench"
)

// site is a private directory and what runs in it.
type site struct {
	dir, self       string
	env             []string
	request, answer []byte
	apache          string // its address
	all             []*processes
	brokers         *processes
}

func newSite() (*site, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("/tmp", "up") // short: the path of a socket has 107 bytes
	if err != nil {
		return nil, err
	}
	s := &site{dir: dir, self: self, request: []byte(strings.Repeat("?", 64)), answer: make([]byte, 64)}
	if s.env, err = bench.Surroundings(dir, serviceName, self); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *site) brokerSocket() string { return filepath.Join(s.dir, "broker.sock") }
func (s *site) backendPipe() string  { return filepath.Join(s.dir, "backend.sock") }

func (s *site) write(name, format string, args ...any) (string, error) {
	path := filepath.Join(s.dir, name)
	return path, os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o644)
}

// close ends every process, the last first, and removes the directory.
func (s *site) close() {
	for i := len(s.all) - 1; i >= 0; i-- {
		s.all[i].stop()
	}
	_ = os.RemoveAll(s.dir)
}

// processes are those of one stack: groups of their own, each begun by one command.
type processes struct{ commands []*exec.Cmd }

func (s *site) start(files []*os.File, program string, args ...string) (*processes, error) {
	p := &processes{}
	s.all = append(s.all, p)
	return p, s.alsoWith(p, files, program, args...)
}

func (s *site) also(p *processes, program string, args ...string) error {
	return s.alsoWith(p, nil, program, args...)
}

func (s *site) alsoWith(p *processes, files []*os.File, program string, args ...string) error {
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Dir, cmd.ExtraFiles = s.env, s.dir, files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := os.Create(filepath.Join(s.dir, fmt.Sprintf("%s-%d.log", filepath.Base(program), len(s.all))))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	p.commands = append(p.commands, cmd)
	return nil
}

const stopTimeout = 5 * time.Second

// stop ends the groups: politely, then not.
func (p *processes) stop() {
	for _, cmd := range p.commands {
		group := -cmd.Process.Pid
		_ = syscall.Kill(group, syscall.SIGTERM)
		killer := time.AfterFunc(stopTimeout, func() { _ = syscall.Kill(group, syscall.SIGKILL) })
		_ = cmd.Wait() // how it ends does not matter
		if !killer.Stop() {
			continue
		}
		_ = syscall.Kill(group, syscall.SIGKILL) // its children, if any are left
	}
	p.commands = nil
}

// backend starts the echo that stands behind most of the stacks, and its broker.
func (s *site) backend() (*processes, error) {
	broker, err := s.start(nil, s.self, "role", "broker", s.brokerSocket())
	if err != nil {
		return nil, err
	}
	s.brokers = broker
	return s.start(nil, s.self, "role", "backend", s.brokerSocket(), s.backendPipe())
}

// broker is running already: the backend registers with it.
func (s *site) broker() (*processes, error) { return s.brokers, nil }

// ready waits until the stack answers.
func (s *site) ready(ctx context.Context, k *stack) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		c, err := k.first(ctx, s)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("does not answer: %w%s", err, s.lastWords())
		}
	}
}

// lastWords is the end of what the process started last has said.
func (s *site) lastWords() string {
	logs, _ := filepath.Glob(filepath.Join(s.dir, fmt.Sprintf("*-%d.log", len(s.all))))
	words := ""
	for _, name := range append(logs, filepath.Join(s.dir, "apache.log")) {
		if b, err := os.ReadFile(name); err == nil && len(b) > 0 {
			words += "; " + strings.TrimSpace(string(b[max(0, len(b)-300):]))
		}
	}
	return words
}

// cpu is the processor time that the processes, and those they started, have had.
func cpu(groups ...*processes) (time.Duration, error) {
	const tick = 10 * time.Millisecond // of the times of ended children
	var sum time.Duration
	err := eachMember(groups, func(pid int, stat []string) error {
		ended, err := strconv.ParseInt(stat[cutime], 10, 64)
		if err != nil {
			return err
		}
		system, err := strconv.ParseInt(stat[cstime], 10, 64)
		if err != nil {
			return err
		}
		sum += time.Duration(ended+system) * tick
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			return err
		}
		for _, name := range threads {
			b, err := os.ReadFile(name)
			if err != nil {
				continue // it has ended
			}
			var ns int64
			if _, err := fmt.Sscan(string(b), &ns); err != nil {
				return err
			}
			sum += time.Duration(ns)
		}
		return nil
	})
	return sum, err
}

// memory is what the processes, and those they started, occupy: what several share
// counts once (PSS), in bytes.
func memory(groups ...*processes) (sum int64, err error) {
	err = eachMember(groups, func(pid int, _ []string) error {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return nil // it has ended
		}
		n, err := bench.KiB(b, "Pss")
		sum += n
		return err
	})
	return sum, err
}

// Fields of /proc/PID/stat behind the name of the program.
const (
	group  = 2
	cutime = 13
	cstime = 14
)

// eachMember calls f for every process of the groups.
func eachMember(groups []*processes, f func(pid int, stat []string) error) error {
	leaders := map[string]bool{}
	for _, g := range groups {
		for _, cmd := range g.commands {
			leaders[strconv.Itoa(cmd.Process.Pid)] = true
		}
	}
	names, err := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range names {
		b, readErr := os.ReadFile(name)
		if readErr != nil {
			continue // it has ended
		}
		pid, parseErr := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
		stat := strings.Fields(rest)
		if parseErr != nil || len(stat) <= cstime || !leaders[stat[group]] {
			continue
		}
		err = errors.Join(err, f(pid, stat))
	}
	return err
}
