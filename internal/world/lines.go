package world

import (
	"bytes"
	"context"
	"sync"
)

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
