package splice

import (
	"errors"
	"os"
	"sync"
	"syscall"
)

// Pipes is a program's standard input and output as a Conn. It owns both.
type Pipes struct {
	in, out *os.File // what the program reads, and what it has written
	silent  chan struct{}
	once    sync.Once
}

// NewPipes makes both, and the program's ends, which the caller closes once it runs.
func NewPipes() (p *Pipes, stdin, stdout *os.File, err error) {
	stdin, in, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		_, _ = stdin.Close(), in.Close()
		return nil, nil, nil, err
	}
	return &Pipes{in: in, out: out, silent: make(chan struct{})}, stdin, stdout, nil
}

// Silent is closed when all that the program has written has been taken, and nothing more
// will.
func (p *Pipes) Silent() <-chan struct{} { return p.silent }

// Read reads what the program has written.
func (p *Pipes) Read(b []byte) (int, error) { return p.out.Read(b) }

// Write writes what the program is to read.
func (p *Pipes) Write(b []byte) (int, error) { return p.in.Write(b) }

// CloseRead has the program's writes fail.
func (p *Pipes) CloseRead() error {
	p.once.Do(func() { close(p.silent) })
	return p.out.Close()
}

// CloseWrite ends the program's input.
func (p *Pipes) CloseWrite() error { return p.in.Close() }

// Close closes both.
func (p *Pipes) Close() error { return errors.Join(p.CloseWrite(), p.CloseRead()) }

// SyscallConn reads from the one and writes to the other.
func (p *Pipes) SyscallConn() (syscall.RawConn, error) {
	in, err := p.in.SyscallConn()
	if err != nil {
		return nil, err
	}
	out, err := p.out.SyscallConn()
	if err != nil {
		return nil, err
	}
	return rawPipes{in, out}, nil
}

type rawPipes struct{ in, out syscall.RawConn }

func (r rawPipes) Read(f func(uintptr) bool) error  { return r.out.Read(f) }
func (r rawPipes) Write(f func(uintptr) bool) error { return r.in.Write(f) }
func (r rawPipes) Control(func(uintptr)) error      { return errors.ErrUnsupported }
