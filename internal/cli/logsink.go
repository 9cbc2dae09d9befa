package cli

import (
	"io"
	"sync"
	"time"
)

// maxLogLines bounds the lines that wait for the log's reader. As many again may
// be in the hands of the goroutine that writes.
const maxLogLines = 4096

// logSink is where a log goes that must never hold its program up: it keeps lines
// for a goroutine that writes them. Lines over the bound are lost and counted.
// The goroutine ends with close; when the writer is stuck by then, as soon as the
// write under way returns.
type logSink struct {
	w     io.Writer
	wake  chan struct{} // has a value when there may be something to do
	ended chan struct{} // closed by the goroutine

	mu        sync.Mutex
	lines     [][]byte
	lost      int  // after lines
	closing   bool // nothing is added any more
	abandoned bool // nothing is written any more
}

// newLogSink starts the goroutine. sayLost is called on it, in the place of lost
// lines, and may write to w. The caller closes the sink.
func newLogSink(w io.Writer, sayLost func(lost int)) *logSink {
	s := &logSink{w: w, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go s.write(sayLost)
	return s
}

// Write takes one line. It neither blocks nor fails.
func (s *logSink) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing:
	case len(s.lines) == maxLogLines:
		s.lost++
	default:
		s.lines = append(s.lines, append([]byte(nil), line...)) // the caller's buffer is used again
		s.rouse()
	}
	return len(line), nil
}

func (s *logSink) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *logSink) write(sayLost func(int)) {
	defer close(s.ended)
	for {
		<-s.wake
		// The lost ones came after all of these, and before the next ones.
		lines, lost, last := s.take()
		for _, line := range lines {
			if s.givenUp() {
				return
			}
			_, _ = s.w.Write(line) // there is nobody to tell: this is the log
		}
		if lost > 0 && !s.givenUp() {
			sayLost(lost)
		}
		if last {
			return
		}
	}
}

func (s *logSink) take() (lines [][]byte, lost int, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines, lost = s.lines, s.lost
	s.lines, s.lost = nil, 0
	return lines, lost, s.closing
}

func (s *logSink) givenUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.abandoned
}

// close writes what is left, for patience at most, and ends the sink.
func (s *logSink) close(patience time.Duration) {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.rouse()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-s.ended:
	case <-timer.C:
		s.mu.Lock()
		s.abandoned = true
		s.mu.Unlock()
	}
}
