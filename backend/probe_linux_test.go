package backend_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/identity"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// alone is a backend without a broker, and the path of its pipe.
func alone(t testing.TB) (*backend.Listener, string) {
	t.Helper()
	ln := listen(t, newPlace(t))
	// The executable is hashed when first asked for; not within a probe's time.
	if _, _, err := identity.Self("shared", "x"); err != nil {
		t.Fatal(err)
	}
	return ln, ln.Addr().String()
}

func dialPipe(t testing.TB, pipe string) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: pipe, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// connected is a client's connection on the pipe, with both ends.
func connected(t testing.TB) (*net.UnixConn, *backend.Conn) {
	t.Helper()
	ln, pipe := alone(t)
	c := dialPipe(t, pipe)
	return c, accept(t, ln)
}

// TestProbe: a server that knows nothing of probes answers them.
func TestProbe(t *testing.T) {
	testutil.Leaks(t)
	ln, pipe := alone(t)
	server := &http.Server{Handler: http.NotFoundHandler()}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	defer func() { _ = server.Close(); <-served }()
	want, _, err := identity.Self("shared", pipe)
	if err != nil {
		t.Fatal(err)
	}
	c := dialPipe(t, pipe)
	got, err := identity.Fetch(t.Context(), c)
	for range 20 { // a busy machine may take longer than a broker waits
		if !errors.Is(err, identity.ErrProbeTimeout) {
			break
		}
		c = dialPipe(t, pipe)
		got, err = identity.Fetch(t.Context(), c)
	}
	if err != nil || !testutil.Equal(got, want) {
		t.Fatalf("%v, %v; want %v", got, err, want)
	}
	wantEnd(t, c)
}

func probeVector(t testing.TB, name string) []byte {
	t.Helper()
	var v struct {
		Vectors []struct{ Name, Hex string }
	}
	testutil.Vectors(t, "framed.json", &v)
	for _, v := range v.Vectors {
		if v.Name == name {
			return testutil.Hex(t, v.Hex)
		}
	}
	t.Fatalf("no vector %s", name)
	return nil
}

// TestProbeInPieces: the application sees nothing of a probe but the end of the
// stream, however it is cut.
func TestProbeInPieces(t *testing.T) {
	testutil.Leaks(t)
	backend.SetProbeWait(t, patience)
	ln, pipe := alone(t)
	probe := probeVector(t, "probe_request")
	asked, _, err := frame.Decode(probe, frame.MaxBody)
	if err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut < len(probe); cut += 7 {
		c := dialPipe(t, pipe)
		s := accept(t, ln)
		part := make(chan struct{})
		go func() {
			_, _ = c.Write(probe[:cut])
			<-part
			_, _ = c.Write(probe[cut:])
		}()
		_ = s.SetReadDeadline(time.Now().Add(time.Millisecond))
		if n, err := s.Read(make([]byte, 4)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("cut at %d: read %d, %v before the rest came", cut, n, err)
		}
		_ = s.SetReadDeadline(time.Now().Add(patience))
		close(part)
		if n, err := s.Read(make([]byte, 4)); n != 0 || err != io.EOF {
			t.Fatalf("cut at %d: the application read %d, %v", cut, n, err)
		}
		f, _, err := frame.Read(c, frame.MaxBody)
		if err != nil || !bytes.HasPrefix(f.Payload, asked.Payload) || f.RequestId != asked.RequestId {
			t.Fatalf("cut at %d: answer %v, %v", cut, f, err)
		}
		_ = s.Close()
		_ = c.Close()
	}
}

// TestMalformedProbe: no answer; the connection ends.
func TestMalformedProbe(t *testing.T) {
	testutil.Leaks(t)
	ln, pipe := alone(t)
	nonce := make([]byte, 32)
	for name, f := range map[string]*wire.Frame{
		"short nonce": frame.Request(frame.Probe, 1, nonce[:31]),
		"long nonce":  frame.Request(frame.Probe, 1, make([]byte, 33)),
		"an event":    frame.Event(frame.Probe, 1, nonce),
	} {
		c := dialPipe(t, pipe)
		s := accept(t, ln)
		send(t, c, string(framed(t, f)))
		if n, err := s.Read(make([]byte, 100)); n != 0 || err != io.EOF {
			t.Errorf("%s: the application read %d, %v", name, n, err)
		}
		_ = s.Close()
		wantEnd(t, c)
	}
}

// lookalikes begin like a probe and are none.
var lookalikes = map[string]string{
	"one byte":         "\x01",
	"text":             "\x01hello, this is another protocol",
	"long length":      string(binary.LittleEndian.AppendUint32([]byte{1}, 5000)) + "body",
	"frame of its own": "\x01\x02\x00\x00\x00\x08\x01 and what follows",
	"broken frame":     "\x01\x02\x00\x00\x00\xff\xff and what follows",
	"unfinished frame": "\x01\x20\x00\x00\x00half a body",
}

// TestLookalikes: application bytes reach the application unchanged, in order
// and in bounded time, however they are split and however small the buffer.
func TestLookalikes(t *testing.T) {
	for name, data := range lookalikes {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			ln, pipe := alone(t)
			for cut := range len(data) {
				c := dialPipe(t, pipe)
				s := accept(t, ln)
				go func() {
					_, _ = io.WriteString(c, data[:cut])
					_, _ = io.WriteString(c, data[cut:])
					_ = c.CloseWrite()
				}()
				got, err := io.ReadAll(io.LimitReader(smallReads{s}, int64(len(data))+1))
				if err != nil || string(got) != data {
					t.Fatalf("cut at %d: read %q, %v", cut, got, err)
				}
				testutil.CheckConnected(t, s, c)
				_ = s.Close()
				_ = c.Close()
			}
		})
	}
}

type smallReads struct{ io.Reader }

func (r smallReads) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(len(p), 3)]) }

// TestLookalikeStaysOpen: the peer waits for an answer, so no end of stream helps
// to tell a lookalike from a probe; and the application gets no deadline that it
// did not set.
func TestLookalikeStaysOpen(t *testing.T) {
	testutil.Leaks(t)
	c, s := connected(t)
	send(t, c, "\x01")
	begin := time.Now()
	wantBytes(t, s, "\x01")
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("one byte took %v", took)
	}
	testutil.CheckConnected(t, c, s)
	testutil.CheckConnected(t, s, c)
	// Longer than the judging took, and with the deadline of the test alone.
	read := make(chan error, 1)
	go func() { _, err := s.Read(make([]byte, 1)); read <- err }()
	send(t, c, "x")
	if err := <-read; err != nil {
		t.Error(err)
	}
}

// TestNoProbeIsNotWaitedFor: what begins with a frame's first byte and can't become a
// probe reaches the application as it comes; what could, soon.
func TestNoProbeIsNotWaitedFor(t *testing.T) {
	for name, data := range map[string]string{
		"long length":       "\x01\x00\x05",
		"huge length":       "\x01\x20\x00\x00\x01",
		"too short":         "\x01\x20\x00\x00\x00",
		"another field":     "\x01\x32\x00\x00\x00\x12",
		"another protocol":  "\x01\x32\x00\x00\x00\x08\x01\x18\x01",
		"another payload":   "\x01\x32\x00\x00\x00\x08\x01\x18\xb2\xe4\x02\x22\x21",
		"a frame, not ours": "\x01\x02\x00\x00\x00\x08\x01",
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			backend.SetProbeWait(t, time.Hour)
			c, s := connected(t)
			send(t, c, data)
			wantBytes(t, s, data)
		})
	}
	t.Run("a probe's beginning", func(t *testing.T) {
		testutil.Leaks(t)
		c, s := connected(t)
		began := time.Now()
		for range 10 { // all but the last byte of a header, and then nothing
			other, o := connected(t)
			send(t, other, "\x01\x32\x00")
			wantBytes(t, o, "\x01\x32\x00")
		}
		send(t, c, "\x01")
		wantBytes(t, s, "\x01")
		if took := time.Since(began); took > 5*time.Second { // half a second each, as a probe has
			t.Errorf("eleven took %v", took)
		}
	})
}

// TestDeadlinesWhileJudging: the application's deadline holds while the first
// bytes are judged, and its passing spoils nothing.
func TestDeadlinesWhileJudging(t *testing.T) {
	testutil.Leaks(t)
	backend.SetProbeWait(t, 2*time.Second)
	c, s := connected(t)
	send(t, c, "\x01\x32")
	for range 3 {
		_ = s.SetReadDeadline(time.Now().Add(time.Millisecond))
		if n, err := s.Read(make([]byte, 8)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read %d, %v", n, err)
		}
	}
	_ = s.SetDeadline(time.Now().Add(patience))
	wantBytes(t, s, "\x01\x32")
	testutil.CheckConnected(t, c, s)
	_ = s.SetReadDeadline(time.Now().Add(time.Millisecond))
	if n, err := s.Read(make([]byte, 8)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after judging: read %d, %v", n, err)
	}
	_ = s.SetReadDeadline(time.Now().Add(patience))
	testutil.CheckConnected(t, c, s)
}

// TestCloseWhileJudging: Close ends a Read that waits for the rest of a probe.
func TestCloseWhileJudging(t *testing.T) {
	testutil.Leaks(t)
	backend.SetProbeWait(t, patience)
	c, s := connected(t)
	send(t, c, "\x01\x32")
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(s)
		read <- err
	}()
	_ = s.Close()
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read ended with %v", err)
	}
}

// FuzzFirstBytes: what a client sends first is either a probe, of which the
// application sees nothing, or reaches it as it is.
func FuzzFirstBytes(f *testing.F) {
	f.Add(probeVector(f, "probe_request"), uint16(5))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint16(3))
	for _, data := range lookalikes {
		f.Add([]byte(data), uint16(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		if len(data) > 64<<10 {
			return
		}
		c, s := connected(t)
		at := min(int(cut), len(data))
		go func() {
			_, _ = c.Write(data[:at])
			_, _ = c.Write(data[at:])
			_ = c.CloseWrite()
		}()
		got, err := io.ReadAll(s)
		if err != nil {
			t.Fatal(err)
		}
		first, size, decodeErr := frame.Decode(data, 1024)
		probe := decodeErr == nil && first.PayloadProtocol == frame.Probe
		if string(got) != string(data) && !(probe && len(got) == 0) {
			t.Errorf("of %q (frame of %d) the application read %q", data, size, got)
		}
	})
}
