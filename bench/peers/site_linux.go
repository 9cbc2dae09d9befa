package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-7265657e/usher/internal/world"
)

// site is where the processes run, and which.
type site struct {
	*world.World
	self            string
	request, answer []byte
	apache          string // its address
	fresh           string // the socket of this round, of a stack that has one a round
	all             []*world.Process
	brokers         []*world.Process
	shared          map[string][]*world.Process // what once has started
}

func newSite(ctx context.Context) (*site, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w, err := world.New(ctx, serviceName, self)
	if err != nil {
		return nil, err
	}
	return &site{World: w, self: self, request: []byte(strings.Repeat("?", 64)), answer: make([]byte, 64), shared: make(map[string][]*world.Process)}, nil
}

func (s *site) backendPipe() string { return s.Path("backend.sock") }

func (s *site) write(name, format string, args ...any) (string, error) {
	path := s.Path(name)
	return path, os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o644)
}

// close ends every process, the last first, and removes the directory.
func (s *site) close() {
	for i := len(s.all) - 1; i >= 0; i-- {
		_ = s.all[i].Terminate() // how it ends does not matter
	}
	_ = s.Close()
}

// start starts one of a stack's processes: a group of its own.
func (s *site) start(files []*os.File, program string, args ...string) ([]*world.Process, error) {
	p, err := s.Start(world.Command{
		Name: fmt.Sprintf("%s-%d", filepath.Base(program), len(s.all)), Args: append([]string{program}, args...), Files: files, Foreign: true,
	})
	if err != nil {
		return nil, err
	}
	s.all = append(s.all, p)
	return []*world.Process{p}, nil
}

// backend starts the echo that stands behind most of the stacks, and its broker.
func (s *site) backend() (started []*world.Process, err error) {
	if s.brokers, err = s.start(nil, s.self, "role", "broker", s.Socket()); err != nil {
		return nil, err
	}
	return s.start(nil, s.self, "role", "backend", s.Socket(), s.backendPipe())
}

// broker is running already: the backend registers with it.
func (s *site) broker() ([]*world.Process, error) { return s.brokers, nil }

// ready waits until the stack answers.
func (s *site) ready(ctx context.Context, k *stack) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var why error
	err := world.Until(ctx, k.name+" answers", func() (bool, error) {
		c, err := k.first(ctx, s)
		if why = err; err != nil {
			return false, nil
		}
		return true, c.Close()
	})
	if err != nil {
		return fmt.Errorf("does not answer: %w%s", cmp.Or(why, err), s.lastWords())
	}
	return nil
}

// lastWords is the end of what the process started last has said, and Apache.
func (s *site) lastWords() string {
	words := s.all[len(s.all)-1].LastWords()
	if b, err := os.ReadFile(s.Path("apache.log")); err == nil && len(b) > 0 {
		words += "; " + strings.TrimSpace(string(b[max(0, len(b)-300):]))
	}
	return words
}
