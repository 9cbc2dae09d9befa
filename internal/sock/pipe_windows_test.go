package sock

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// pipeName is the name of a pipe that nobody has.
func pipeName() string {
	var random [8]byte
	_, _ = rand.Read(random[:])
	return namesPipe + "usher-test-" + hex.EncodeToString(random[:])
}

func listening(t *testing.T) (*Listener, string) {
	t.Helper()
	path := pipeName()
	l, err := Listen(path, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, path
}

// pair is a connection, and its serving end.
func pair(t *testing.T) (dialled, served *Conn) {
	t.Helper()
	l, path := listening(t)
	return dialledTo(t, l, path)
}

func dialledTo(t *testing.T, l *Listener, path string) (dialled, served *Conn) {
	t.Helper()
	dialled, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "the connection is there", func() bool {
		served, err = l.Accept()
		return !errors.Is(err, syscall.EAGAIN)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dialled.Close(); _ = served.Close() })
	return dialled, served
}

func mustWrite(t *testing.T, c *Conn, s string) {
	t.Helper()
	if n, err := c.TryWrite([]byte(s)); n != len(s) || err != nil {
		t.Fatalf("wrote %d bytes, %v", n, err)
	}
}

func mustRead(t *testing.T, c *Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

// TestRawReadsNoMoreThanIsAsked: a first frame is read exactly, and what follows is left.
func TestRawReadsNoMoreThanIsAsked(t *testing.T) {
	dialled, served := pair(t)
	buf := make([]byte, 3)
	if n, err := served.TryRead(buf); n != 0 || err != syscall.EAGAIN {
		t.Fatalf("of nothing: %d, %v", n, err)
	}
	mustWrite(t, dialled, "onetwo")
	if n, err := served.TryRead(buf); string(buf[:n]) != "one" || err != nil {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	mustRead(t, served, "two") // by the poller: nothing has bound it before
	_ = dialled.Close()
	if n, err := served.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
}

// TestCloseLeavesWhatWasWritten to be read: a refusal arrives although the broker has closed.
func TestCloseLeavesWhatWasWritten(t *testing.T) {
	dialled, served := pair(t)
	mustWrite(t, served, "no")
	_ = served.Close()
	mustRead(t, dialled, "no")
	if n, err := dialled.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("behind it: %d, %v", n, err)
	}
	if _, err := dialled.TryWrite([]byte("x")); err != syscall.EPIPE {
		t.Errorf("write to nobody: %v", err)
	}
}

func TestDeadlinesEndWaits(t *testing.T) {
	dialled, served := pair(t)
	_ = dialled.SetReadDeadline(time.Unix(1, 0))
	if _, err := dialled.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	if err := dialled.CheckRead(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("check: %v", err)
	}
	_ = dialled.SetDeadline(time.Time{})
	mustWrite(t, served, "x")
	mustRead(t, dialled, "x")
	_ = dialled.SetWriteDeadline(time.Unix(1, 0))
	if _, err := dialled.Write(make([]byte, 4*room)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
}

// TestFullPipeTakesNothingMore, and a Write waits until it does.
func TestFullPipeTakesNothingMore(t *testing.T) {
	dialled, served := pair(t)
	part, sent := make([]byte, 4<<10), 0
	for {
		n, err := served.TryWrite(part)
		if sent += n; err == syscall.EAGAIN {
			break
		}
		if err != nil || sent > 16*room {
			t.Fatalf("after %d bytes: %v", sent, err)
		}
	}
	written := make(chan error, 1)
	go func() {
		_, err := served.Write([]byte("end"))
		written <- err
	}()
	got := make([]byte, sent)
	if _, err := io.ReadFull(dialled, got); err != nil {
		t.Fatal(err)
	}
	mustRead(t, dialled, "end")
	if err := <-written; err != nil {
		t.Error(err)
	}
}

// TestCloseLetsWritesGoOn: a write that found no room is read to its end, and who waits for
// something to read is let go at once.
func TestCloseLetsWritesGoOn(t *testing.T) {
	dialled, served := pair(t)
	_ = served.SetDeadline(time.Now().Add(time.Hour))
	waits := make(chan error, 1)
	go func() {
		_, err := served.Read(make([]byte, 1))
		waits <- err
	}()
	part, sent := make([]byte, 4<<10), 0
	for {
		n, err := served.TryWrite(part)
		if sent += n; err == syscall.EAGAIN {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := served.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waits; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read: %v", err)
	}
	if n, err := io.Copy(io.Discard, dialled); int(n) != sent || err != nil {
		t.Errorf("read %d of %d bytes, %v", n, sent, err)
	}
}

func TestPrefixGoesAhead(t *testing.T) {
	dialled, served := pair(t)
	served.Prefix([]byte("first "))
	if n, err := served.Write([]byte("then")); n != 4 || err != nil || served.Prefixed() {
		t.Fatalf("%d, %v", n, err)
	}
	mustRead(t, dialled, "first then")
}

// TestShutdownEndsReading behind what has arrived.
func TestShutdownEndsReading(t *testing.T) {
	dialled, served := pair(t)
	mustWrite(t, dialled, "x")
	_ = served.Shutdown()
	buf := make([]byte, 8)
	if n, err := served.TryRead(buf); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := served.TryRead(buf); n != 0 || err != io.EOF {
		t.Errorf("behind it: %d, %v", n, err)
	}
}

func TestCloseEndsARead(t *testing.T) {
	_, served := pair(t)
	_ = served.SetDeadline(time.Now().Add(time.Hour))
	ended := make(chan error)
	go func() {
		_, err := served.Read(make([]byte, 1))
		ended <- err
	}()
	_ = served.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := served.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("again: %v", err)
	}
}

func TestPeerIsThisUser(t *testing.T) {
	dialled, served := pair(t)
	for name, c := range map[string]*Conn{"client": dialled, "server": served} {
		cred, err := PeerOf(c)
		if err != nil || cred.PID != os.Getpid() || cred.CheckUser(-1) != nil {
			t.Errorf("%s sees %+v, %v", name, cred, err)
		}
	}
	if err := (Credentials{SID: "0101"}).CheckUser(-1); !errors.Is(err, ErrForeignUser) {
		t.Errorf("another user: %v", err)
	}
}

// TestListenerServesMoreThanItsInstances, one after the other.
func TestListenerServesMoreThanItsInstances(t *testing.T) {
	l, path := listening(t)
	for range 2 * instances {
		dialled, served := dialledTo(t, l, path)
		mustWrite(t, dialled, "x")
		mustRead(t, served, "x")
	}
}

// TestListenerShutDown: who has connected is accepted, and nobody else can connect.
func TestListenerShutDown(t *testing.T) {
	l, path := listening(t)
	dialled, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dialled.Close() }()
	if err := l.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if c, err := Dial(path); err == nil {
		_ = c.Close()
		t.Error("connected behind the end")
	}
	served, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = served.Close()
	if _, err := l.Accept(); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("behind the last: %v", err)
	}
	if set, _ := windows.WaitForSingleObject(l.ready, 0); set == windows.WAIT_OBJECT_0 {
		t.Error("a loop would ask for ever")
	}
}

// TestDialTellsBusyFromGone: a connection that outlives its server keeps the pipe's name in
// use, and nobody is there to wait for.
func TestDialTellsBusyFromGone(t *testing.T) {
	l, path := listening(t)
	held, err := HoldName(path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	_, _ = dialledTo(t, l, path)
	_ = l.Shutdown()
	if c, err := Dial(path); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("while its name is held: %v, %v", c, err)
	}
	held.Close()
	if c, err := Dial(path); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("behind its end: %v, %v", c, err)
	}
}

// TestWaitForAnInstance: one that is free is there at once, and one that nobody gives up is not
// there in time.
func TestWaitForAnInstance(t *testing.T) {
	l, path := listening(t)
	if !becomesFree(path) {
		t.Error("an instance is free")
	}
	_, _ = dialledTo(t, l, path)
	_ = l.Shutdown()
	if becomesFree(path) {
		t.Error("none is free, or ever will be")
	}
}

func TestNames(t *testing.T) {
	if _, err := Dial(pipeName()); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("nobody there: %v", err)
	}
	for _, path := range []string{"", `C:\usher`, namesPipe, `\\host\pipe\x`} {
		if _, err := Dial(path); err == nil {
			t.Errorf("%q was dialled", path)
		}
		if _, err := Listen(path, true); err == nil {
			t.Errorf("%q was made", path)
		}
	}
	path := pipeName()
	held, err := HoldName(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // asking leaves it so
		if !isHeld(path) {
			t.Error("it is held")
		}
	}
	if _, err := HoldName(path); !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("held twice: %v", err)
	}
	held.Close()
	if isHeld(path) {
		t.Error("it is held by nobody")
	}
	again, err := HoldName(path)
	if err != nil {
		t.Fatalf("let go: %v", err)
	}
	again.Close()
}

// TestShutdownLosesNobody: whoever gets a connection is accepted, and finds no end of the
// stream, however many come at that moment.
func TestShutdownLosesNobody(t *testing.T) {
	for range 100 {
		l, path := listening(t)
		var came sync.WaitGroup
		dialled := make(chan *Conn, instances)
		begin := make(chan struct{})
		for range 3 {
			came.Go(func() {
				<-begin
				for range instances / 4 { // fewer than there are instances
					c, err := Dial(path)
					if err != nil {
						return
					}
					dialled <- c
				}
			})
		}
		close(begin)
		_ = l.Shutdown()
		came.Wait()
		close(dialled)
		var accepted []*Conn
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			accepted = append(accepted, c)
		}
		for c := range dialled {
			if _, err := c.TryRead(make([]byte, 1)); !errors.Is(err, syscall.EAGAIN) {
				t.Errorf("a client finds %v", err)
			}
			_ = c.Close()
		}
		for _, c := range accepted {
			_ = c.Close()
		}
		_ = l.Close()
	}
}

// TestPreparedPipe: nobody can connect before Open, and a pipe that can't be made is tried
// again.
func TestPreparedPipe(t *testing.T) {
	path := pipeName()
	l, err := Prepare(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if _, err := l.Accept(); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("accepted before: %v", err)
	}
	if c, err := Dial(path); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("dialled before: %v, %v", c, err)
	}
	full, err := createPipe(path, l.security, 0, 1) // then there can't be another
	if err != nil {
		t.Fatal(err)
	}
	l.Open()
	if set, _ := windows.WaitForSingleObject(l.ready, 0); set != windows.WAIT_OBJECT_0 {
		t.Error("nothing has Accept called")
	}
	if _, err := l.Accept(); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("accepted: %v", err)
	}
	closeFD(full)
	if _, err := l.Accept(); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("accepted: %v", err)
	}
	_, _ = dialledTo(t, l, path)
}

// TestDeadlineBeforeItWaits: it holds, although the connection is nobody's to poll yet.
func TestDeadlineBeforeItWaits(t *testing.T) {
	dialled, served := pair(t)
	if _, err := dialled.TryWrite([]byte("xy")); err != nil {
		t.Fatal(err)
	}
	past := time.Unix(1, 0)
	_ = served.SetDeadline(past)
	if _, err := served.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	if _, err := served.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("written: %v", err)
	}
	if served.parked.Load() != nil {
		t.Error("a deadline alone has bound it")
	}
	_ = served.SetDeadline(time.Time{})
	if n, err := served.Read(make([]byte, 2)); n != 2 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	_ = served.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := served.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("waited: %v", err)
	}
	_ = served.SetReadDeadline(time.Time{})
	_, _ = dialled.TryWrite([]byte("z"))
	if n, err := served.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
}

// TestNobodyHasThatPID: a peer that has gone is told from one that can't be asked.
func TestNobodyHasThatPID(t *testing.T) {
	const never = 0x7ffffff1 // pids are multiples of four
	if _, err := credentialsOf(never); !errors.Is(err, syscall.ESRCH) {
		t.Error(err)
	}
}
