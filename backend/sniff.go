package backend

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/frame"
)

const (
	// probeWait is how long the first bytes of a connection may look like the
	// beginning of an identity probe without being a whole one (spec 01 §11
	// gives a prober as long for everything).
	probeWait = 500 * time.Millisecond
	// maxProbe bounds a probe's frame body: a nonce and two trace headers.
	maxProbe = 1024
)

// sniffer tells v1 identity probes from the application's own bytes at the
// start of a connection on the backend's pipe. Connections whose first byte is
// not a frame's cost one comparison. A probe is answered and ends the
// connection; everything else reaches the application unchanged.
type sniffer struct {
	conn   *Conn
	answer func(*brokerpb.Frame) ([]byte, error)

	passed atomic.Bool // nothing is held back any more

	mu     sync.Mutex // held while the first bytes are being judged or replayed
	held   []byte     // read, and not yet with the application
	judged bool
	err    error // follows held

	// The application's read deadline, and the one of judging, which is zero
	// when nothing is being judged. The earlier one is in force.
	deadlines      sync.Mutex
	app, judgement time.Time
}

func (s *sniffer) done() bool { return s.passed.Load() }

// read is Conn.Read until the first bytes have been judged and handed on. An
// application's deadline that passes meanwhile is reported, and spoils nothing.
func (s *sniffer) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.passed.Load() || len(p) == 0 {
		return s.conn.read(p)
	}
	if len(s.held) == 0 && !s.judged {
		n, err := s.conn.read(p)
		if n == 0 {
			return 0, err
		}
		if p[0] != frame.Version {
			s.passed.Store(true)
			return n, err
		}
		s.held = append(s.held, p[:n]...)
		s.limit(time.Now().Add(probeWait))
	}
	if !s.judged {
		if err := s.judge(); err != nil {
			return 0, err
		}
		s.limit(time.Time{})
		s.judged = true
	}
	return s.replay(p)
}

// replay hands on what judge held back, then steps aside.
func (s *sniffer) replay(p []byte) (int, error) {
	if err := s.conn.CheckRead(); err != nil {
		return 0, err
	}
	if len(s.held) == 0 {
		return 0, s.err
	}
	n := copy(p, s.held)
	s.held = s.held[n:]
	if len(s.held) == 0 && s.err == nil {
		s.passed.Store(true)
	}
	return n, nil
}

// judge reads on until what is held is a whole probe, can't become one, or
// probeWait has passed since its first byte. Its error is the application's
// deadline; judging goes on at the next Read.
func (s *sniffer) judge() error {
	part := make([]byte, maxProbe)
	for {
		f, verdict := judgeProbe(s.held)
		switch verdict {
		case probeWhole:
			s.held = nil
			s.reply(f)
			return nil
		case probeNot:
			return nil
		}
		n, err := s.conn.read(part)
		s.held = append(s.held, part[:n]...)
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			s.err = err
			return nil
		case s.expired():
			return nil
		default:
			return err
		}
	}
}

func (s *sniffer) reply(f *brokerpb.Frame) {
	s.err = io.EOF
	reply, err := s.answer(f)
	if err != nil {
		return // malformed: a connection error, no answer (spec 01 §11)
	}
	_ = s.conn.Conn.SetWriteDeadline(time.Now().Add(probeWait))
	_, _ = s.conn.Conn.Write(reply)
}

// setReadDeadline sets the application's deadline.
func (s *sniffer) setReadDeadline(t time.Time) error {
	s.deadlines.Lock()
	defer s.deadlines.Unlock()
	s.app = t
	return s.enforce()
}

// limit sets the deadline of judging, or lifts it.
func (s *sniffer) limit(t time.Time) {
	s.deadlines.Lock()
	defer s.deadlines.Unlock()
	s.judgement = t
	_ = s.enforce() // fails on a closed connection, as the next read does
}

func (s *sniffer) expired() bool {
	s.deadlines.Lock()
	defer s.deadlines.Unlock()
	return !time.Now().Before(s.judgement)
}

// enforce must be called with deadlines locked.
func (s *sniffer) enforce() error {
	t := s.app
	if t.IsZero() || !s.judgement.IsZero() && s.judgement.Before(t) {
		t = s.judgement
	}
	return s.conn.Conn.SetReadDeadline(t)
}

type probeVerdict int

const (
	probeMaybe probeVerdict = iota
	probeWhole
	probeNot
)

// judgeProbe says what buf is, whose first byte is a frame's.
func judgeProbe(buf []byte) (*brokerpb.Frame, probeVerdict) {
	f, consumed, err := frame.Decode(buf, maxProbe)
	switch {
	case errors.Is(err, frame.ErrNeedMore):
		return nil, probeMaybe
	case err != nil || f.GetPayloadProtocol() != frame.Probe || consumed != len(buf):
		return nil, probeNot
	}
	return f, probeWhole
}
