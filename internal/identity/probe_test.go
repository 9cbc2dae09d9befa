package identity

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// probeAgainst runs Fetch against a peer that does what serve says, on a
// controlled clock. It returns how long the probe took, and what it returned.
func probeAgainst(ctx context.Context, t *testing.T, serve func(net.Conn)) (took time.Duration, got *wire.DaemonProcess, err error) {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		serve(theirs)
	}()
	start := time.Now()
	got, err = Fetch(ctx, ours)
	took = time.Since(start)
	ours.Close()
	<-done
	return took, got, err
}

// answering serves one probe as the given process.
func answering(t *testing.T, p *wire.DaemonProcess) func(net.Conn) {
	return func(conn net.Conn) {
		f, _, err := frame.Read(conn, frame.MaxBody)
		if err != nil {
			t.Error(err)
			return
		}
		answer, err := AnswerProbe(f, p, [HashLen]byte{})
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := frame.Write(conn, answer); err != nil {
			t.Error(err)
		}
	}
}

func TestProbe(t *testing.T) {
	other := demoDaemon(t)
	other.BootId = "other"
	synctest.Test(t, func(t *testing.T) {
		if _, got, err := probeAgainst(t.Context(), t, answering(t, demoDaemon(t))); err != nil || mismatch(demoDaemon(t), got) != "" {
			t.Errorf("expected process: %v, %v", got, err)
		}
		if _, got, err := probeAgainst(t.Context(), t, answering(t, other)); err != nil || mismatch(demoDaemon(t), got) != "boot_id" {
			t.Errorf("other process: %v, %v", got, err)
		}
	})
}

func TestProbeIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := func(conn net.Conn) { _, _, _ = frame.Read(conn, frame.MaxBody) } // the probe may be gone already
		hang := func(conn net.Conn) { read(conn); _, _ = conn.Read(make([]byte, 1)) }

		if took, _, err := probeAgainst(t.Context(), t, hang); !errors.Is(err, ErrProbeTimeout) || took != ProbeTimeout {
			t.Errorf("silent peer: %v after %v", err, took)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if took, _, err := probeAgainst(short, t, hang); !errors.Is(err, ErrProbeTimeout) || took != time.Millisecond {
			t.Errorf("short deadline: %v after %v", err, took)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := probeAgainst(gone, t, hang); !errors.Is(err, context.Canceled) || errors.Is(err, ErrProbeTimeout) {
			t.Errorf("cancelled caller: %v", err)
		}
		if took, _, err := probeAgainst(t.Context(), t, read); !errors.Is(err, ErrProbeTimeout) || took != 0 {
			t.Errorf("peer that hangs up: %v after %v", err, took)
		}
	})
}

func FuzzProbeFrames(f *testing.F) {
	nonce := [nonceLen]byte{7}
	request := newProbe(nonce)
	f.Add(uint32(1), uint32(1), nonce[:])
	f.Add(uint32(1), uint32(0), append(nonce[:], 0x7f))
	f.Fuzz(func(t *testing.T, version, kind uint32, payload []byte) {
		got := &wire.Frame{
			EnvelopeVersion: version, Kind: wire.FrameKind(kind), PayloadProtocol: frame.Probe,
			RequestId: request.RequestId, Payload: payload,
		}
		if p, err := judge(request, got); err == nil && len(p.ExeHash) != HashLen {
			t.Errorf("accepted %v", p)
		}
		if answer, err := AnswerProbe(got, &wire.DaemonProcess{}, [HashLen]byte{}); err == nil && !bytes.HasPrefix(answer.Payload, payload) {
			t.Errorf("the answer does not echo %x", payload)
		}
	})
}
