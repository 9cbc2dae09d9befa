package world

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// Tell writes one line to the process.
func (p *Process) Tell(what any) error {
	if err := json.NewEncoder(p.stdin).Encode(what); err != nil {
		return fmt.Errorf("tell %s: %w%s", p.Name, err, p.LastWords())
	}
	return nil
}

// Line reads the process' next line into v. It fails when the process ends without
// another one, and with ctx.
func (p *Process) Line(ctx context.Context, v any) error {
	line, ok := p.said.next(ctx, p.ended)
	switch {
	case !ok && ctx.Err() != nil:
		return fmt.Errorf("%s does not answer: %w%s", p.Name, ctx.Err(), p.LastWords())
	case !ok:
		return fmt.Errorf("%s ended before it answered (%w)%s", p.Name, cmp.Or(p.err, io.EOF), p.LastWords())
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("%s says %.300q: %w", p.Name, line, err)
	}
	return nil
}

// Ask tells the process something and reads its next line, the answer.
func (p *Process) Ask(ctx context.Context, question, answer any) error {
	if err := p.Tell(question); err != nil {
		return err
	}
	return p.Line(ctx, answer)
}

// Ready waits until the process says that it is.
func (p *Process) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	var h hail
	if err := p.Line(ctx, &h); err != nil {
		return err
	}
	if !h.Ready {
		return fmt.Errorf("%s says something else than that it is ready", p.Name)
	}
	return nil
}

// lines is a queue of the lines that a process has said. Package exec writes, in
// one goroutine; one goroutine reads.
type lines struct {
	more chan struct{} // there may be another line

	mu      sync.Mutex
	whole   [][]byte
	partial []byte
}

func newLines() *lines { return &lines{more: make(chan struct{}, 1)} }

// Write takes in a part of the output.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	l.partial = append(l.partial, b...)
	for {
		line, rest, found := bytes.Cut(l.partial, []byte("\n"))
		if !found {
			break
		}
		l.whole, l.partial = append(l.whole, line), rest
	}
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (l *lines) pop() (line []byte, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.whole) == 0 {
		return nil, false
	}
	line, l.whole = l.whole[0], l.whole[1:]
	return line, true
}

// next returns the next line, as soon as there is one. It returns false when there
// is none and ended is closed, and at the end of ctx.
func (l *lines) next(ctx context.Context, ended <-chan struct{}) (line []byte, ok bool) {
	for over := false; ; {
		if line, ok := l.pop(); ok || over {
			return line, ok
		}
		select {
		case <-l.more:
		case <-ended:
			over = true // once more: all of it has been written now
		case <-ctx.Done():
			return nil, false
		}
	}
}
