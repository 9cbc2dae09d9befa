package backend

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// probeWait is how long the first bytes of a connection may be the beginning of an
// identity probe without being a whole one. A prober sends its 55 or so bytes in one
// piece, which arrives as one; so the wait is for those that don't, and costs whom it
// should: a prober that takes longer is not answered, and the broker takes it for
// unverified; an application whose client says nothing but the first bytes of a probe,
// and waits then, reads them that much later.
var probeWait = 10 * time.Millisecond

const (
	// probeReply bounds the answer to a probe (spec 01 §11 gives a prober as long for
	// everything).
	probeReply = 500 * time.Millisecond
	// maxProbe bounds a probe's frame body: a nonce and two trace headers.
	maxProbe = 1024
)

// probeStart is how the body of a probe begins: envelope_version 1, kind REQUEST, which
// is not written, payload_protocol 0xB232, and a payload of 32 bytes, in the order in
// which encoders write fields. One in another order is known when it is there as a whole.
var probeStart = []byte{1 << 3, 1, 3 << 3, 0xb2, 0xe4, 0x02, 4<<3 | 2, nonceLen}

const nonceLen = 32

// sniffer tells v1 identity probes from the application's own bytes at the
// start of a connection on the backend's pipe. Connections whose first bytes are
// not a probe's cost a comparison. A probe is answered and ends the
// connection; everything else reaches the application unchanged.
type sniffer struct {
	conn   *Conn
	answer func(*wire.Frame) ([]byte, error)

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
		if !mayBeProbe(p[:n]) {
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
	if err := s.conn.sock.CheckRead(); err != nil {
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

func (s *sniffer) reply(f *wire.Frame) {
	s.err = io.EOF
	reply, err := s.answer(f)
	if err != nil {
		return // malformed: a connection error, no answer (spec 01 §11)
	}
	_ = s.conn.sock.SetWriteDeadline(time.Now().Add(probeReply))
	_, _ = s.conn.sock.Write(reply)
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
	return s.conn.sock.SetReadDeadline(t)
}

type probeVerdict int

const (
	probeMaybe probeVerdict = iota
	probeWhole
	probeNot
)

// judgeProbe says what buf is, which is not empty.
func judgeProbe(buf []byte) (*wire.Frame, probeVerdict) {
	f, consumed, err := frame.Decode(buf, maxProbe)
	switch {
	case errors.Is(err, frame.ErrNeedMore):
		return nil, judgePart(buf)
	case err != nil || f.PayloadProtocol != frame.Probe || consumed != len(buf):
		return nil, probeNot
	}
	return f, probeWhole
}

// mayBeProbe reports whether buf, which is not empty, is a probe or the beginning of one.
func mayBeProbe(buf []byte) bool {
	_, verdict := judgeProbe(buf)
	return verdict != probeNot
}

// judgePart says whether a probe can begin with buf, which is no whole frame.
func judgePart(buf []byte) probeVerdict {
	var header [frame.HeaderLen]byte
	n := copy(header[:], buf)
	length, _, err := frame.Header(header[:], maxProbe) // at least: what is missing counts as 0
	body := buf[n:]
	switch {
	case err != nil:
		return probeNot
	case n == frame.HeaderLen && length < len(probeStart)+nonceLen:
		return probeNot
	case !bytes.HasPrefix(body, probeStart[:min(len(body), len(probeStart))]):
		return probeNot
	}
	return probeMaybe
}
