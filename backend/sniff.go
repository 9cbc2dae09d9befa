package backend

import (
	"errors"
	"io"
	"net"
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
	conn   *net.UnixConn
	answer func(*brokerpb.Frame) ([]byte, error)

	passed atomic.Bool // nothing is held back any more

	mu   sync.Mutex // held while the first bytes are being judged or replayed
	held []byte     // judged, for the application
	err  error      // follows held
	open bool       // judged

	deadline struct {
		sync.Mutex
		at time.Time // the application's read deadline
	}
}

func (s *sniffer) done() bool { return s.passed.Load() }

// read is Conn.Read until the first bytes have been judged and handed on.
func (s *sniffer) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.passed.Load() || len(p) == 0 {
		return s.conn.Read(p)
	}
	if !s.open {
		n, err := s.conn.Read(p)
		if n == 0 {
			return 0, err
		}
		if p[0] != frame.Version {
			s.passed.Store(true)
			return n, err
		}
		s.judge(append([]byte(nil), p[:n]...))
	}
	return s.replay(p)
}

// replay hands on what judge held back, then steps aside.
func (s *sniffer) replay(p []byte) (int, error) {
	if len(s.held) > 0 {
		n := copy(p, s.held)
		s.held = s.held[n:]
		if len(s.held) == 0 && s.err == nil {
			s.passed.Store(true)
		}
		return n, nil
	}
	return 0, s.err
}

// judge reads on until buf is a whole probe, can't become one, or probeWait has
// passed.
func (s *sniffer) judge(buf []byte) {
	s.open = true
	var expired atomic.Bool
	timer := time.AfterFunc(probeWait, func() {
		expired.Store(true)
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	})
	defer func() {
		timer.Stop()
		s.deadline.Lock()
		defer s.deadline.Unlock()
		_ = s.conn.SetReadDeadline(s.deadline.at)
	}()
	part := make([]byte, maxProbe)
	for {
		f, verdict := judgeProbe(buf)
		switch verdict {
		case probeWhole:
			s.reply(f)
			return
		case probeNot:
			s.held = buf
			return
		}
		n, err := s.conn.Read(part)
		buf = append(buf, part[:n]...)
		if err != nil {
			s.held = buf
			if !(expired.Load() && errors.Is(err, os.ErrDeadlineExceeded)) {
				s.err = err
			}
			return
		}
	}
}

func (s *sniffer) reply(f *brokerpb.Frame) {
	s.err = io.EOF
	reply, err := s.answer(f)
	if err != nil {
		return // malformed: a connection error, no answer (spec 01 §11)
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(probeWait))
	_, _ = s.conn.Write(reply)
}

func (s *sniffer) setReadDeadline(t time.Time) {
	s.deadline.Lock()
	s.deadline.at = t
	s.deadline.Unlock()
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
