package sock

import (
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// transfer gives this process what it lends, over a connection with itself.
func transfer(t *testing.T, c *Conn) (_ Transferred, from *Conn) {
	t.Helper()
	to, from := pair(t)
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	given, err := Transfer(to, os.Getpid(), nil, raw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(given.Close)
	return given, from
}

// isOpen reports whether this process has such a handle.
func isOpen(number uint64) bool {
	var basics objectBasics
	status, _, _ := queryObject.Call(uintptr(number), 0, uintptr(unsafe.Pointer(&basics)), unsafe.Sizeof(basics), 0)
	return status == 0
}

// TestTransfer: what is taken is the very connection, and nobody takes it twice.
func TestTransfer(t *testing.T) {
	client, accepted := pair(t)
	for range 3 { // a number that was closed is given out again
		given, from := transfer(t, accepted)
		fds, err := TakeHandle(from, given.Handle)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := TakeHandle(from, given.Handle); !errors.Is(err, ErrNotGiven) {
			t.Errorf("taken twice: %v", err)
		}
		if err := fds.CheckConnection(0); err != nil {
			t.Error(err)
		}
		conn := fds.TakeConn(0)
		mustWrite(t, conn, "x")
		mustRead(t, client, "x")
		if _, err := TakeHandle(from, given.Handle); !errors.Is(err, ErrNotGiven) || !isOpen(given.Handle) {
			t.Errorf("taken from its owner: %v", err)
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute)) // it is the runtime's from here on
		if _, err := TakeHandle(from, given.Handle); !errors.Is(err, ErrNotGiven) {
			t.Errorf("taken from the runtime: %v", err)
		}
		_ = conn.Close()
		if isOpen(given.Handle) {
			t.Error("it stays open")
		}
	}
}

// TestTransferTakenBack: the process has nothing any more, and a handle that it has closed itself
// is no error.
func TestTransferTakenBack(t *testing.T) {
	_, accepted := pair(t)
	given, from := transfer(t, accepted)
	number := given.Handle
	if !isOpen(number) {
		t.Fatal("nothing was given")
	}
	if err := given.TakeBack(); err != nil || given.Handle != 0 || isOpen(number) {
		t.Errorf("%v, %#x, open %v", err, given.Handle, isOpen(number))
	}
	if _, err := TakeHandle(from, number); !errors.Is(err, ErrNotGiven) {
		t.Errorf("taken all the same: %v", err)
	}
	given.Handle = number
	if err := given.TakeBack(); err != nil {
		t.Error(err)
	}
}

// TestTransferToNobody: the errors say what has failed.
func TestTransferToNobody(t *testing.T) {
	_, accepted := pair(t)
	raw, err := accepted.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	to, from := pair(t)
	if _, err := Transfer(to, 0, nil, raw); !errors.Is(err, ErrNotOpened) {
		t.Errorf("to process 0: %v", err)
	}
	_ = accepted.Close()
	if _, err := Transfer(to, os.Getpid(), nil, raw); !errors.Is(err, ErrNotDuplicated) {
		t.Errorf("of a closed connection: %v", err)
	}
	_ = from.Close()
	if _, err := Transfer(to, os.Getpid(), nil, raw); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("to a server that has ended: %v", err)
	}
}

const protectFromClose = 2 // HANDLE_FLAG_PROTECT_FROM_CLOSE

// TestTakeHandleRefuses what the other side can't have put there, and leaves it open.
func TestTakeHandleRefuses(t *testing.T) {
	_, from := pair(t)
	dialled, served := pair(t)
	file, err := os.CreateTemp("", "usher")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = file.Close(), os.Remove(file.Name()) }()
	var read, write windows.Handle
	if err := windows.CreatePipe(&read, &write, nil, 0); err != nil {
		t.Fatal(err)
	}
	duplicate := func(inherit bool) windows.Handle {
		var h windows.Handle
		self := windows.CurrentProcess()
		if err := windows.DuplicateHandle(self, windows.Handle(served.fd), self, &h, 0, inherit, windows.DUPLICATE_SAME_ACCESS); err != nil {
			t.Fatal(err)
		}
		return h
	}
	inherited, kept, readable := duplicate(true), duplicate(false), windows.Handle(0)
	if err := windows.SetHandleInformation(kept, protectFromClose, protectFromClose); err != nil {
		t.Fatal(err)
	}
	if err := windows.DuplicateHandle(windows.CurrentProcess(), kept, windows.CurrentProcess(), &readable, windows.GENERIC_READ, false, 0); err != nil {
		t.Fatal(err)
	}
	process, err := windows.OpenProcess(windows.PROCESS_DUP_HANDLE, false, windows.GetCurrentProcessId())
	if err != nil {
		t.Fatal(err)
	}
	own := event(t)
	before, err := windows.GetStdHandle(windows.STD_INPUT_HANDLE)
	if err != nil {
		t.Fatal(err)
	}
	standard := duplicate(false)
	if err := windows.SetStdHandle(windows.STD_INPUT_HANDLE, standard); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = windows.SetStdHandle(windows.STD_INPUT_HANDLE, before) }()
	for name, number := range map[string]uint64{
		"its own connection":       uint64(served.fd),
		"its own endpoint":         uint64(from.fd),
		"the other end":            uint64(dialled.fd),
		"a file":                   uint64(file.Fd()),
		"an event":                 uint64(own.n),
		"a process":                uint64(process),
		"an anonymous pipe, read":  uint64(read),
		"an anonymous pipe, write": uint64(write),
		"standard input":           uint64(standard),
		"inherited":                uint64(inherited),
		"kept from being closed":   uint64(kept),
		"read only":                uint64(readable),
	} {
		if !isOpen(number) {
			t.Fatalf("%s is not there", name)
		}
		if fds, err := TakeHandle(from, number); !errors.Is(err, ErrNotGiven) || fds.Len() != 0 {
			t.Errorf("%s was taken: %v", name, err)
		}
		if !isOpen(number) {
			t.Errorf("%s was closed", name)
		}
	}
	given, sender := transfer(t, served)
	for name, number := range map[string]uint64{
		"nothing": 0, "this process": ^uint64(0), "this thread": ^uint64(1), "a number that no handle has": given.Handle | 1<<40,
		"by another number": given.Handle | 1, "by a third number": given.Handle | 3, "none": given.Handle + 4000,
	} {
		if fds, err := TakeHandle(sender, number); !errors.Is(err, ErrNotGiven) || fds.Len() != 0 {
			t.Errorf("%s was taken: %v", name, err)
		}
	}
	if fds, err := TakeHandle(sender, given.Handle); err != nil {
		t.Error(err)
	} else {
		fds.Close()
	}
	for _, h := range []windows.Handle{read, write, inherited, readable, standard, process} {
		_ = windows.CloseHandle(h)
	}
	_ = windows.SetHandleInformation(kept, protectFromClose, 0)
	_ = windows.CloseHandle(kept)
	mustWrite(t, dialled, "y")
	mustRead(t, served, "y")
}

// TestBlockingConnection: an end whose callers wait is no connection, whoever gives it.
func TestBlockingConnection(t *testing.T) {
	path := pipeName()
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := windows.CreateNamedPipe(name, windows.PIPE_ACCESS_DUPLEX, windows.PIPE_TYPE_BYTE, 1, room, room, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := openPipe(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(client)
	_, from := pair(t)
	fds, err := TakeHandle(from, uint64(h))
	if err != nil {
		t.Fatal(err)
	}
	if err := fds.CheckConnection(0); !errors.Is(err, ErrKind) {
		t.Errorf("it is: %v", err)
	}
	if fds.Close(); isOpen(uint64(h)) {
		t.Error("it stays open")
	}
}

// TestOfferedNumberBecomesOnesOwn while it is looked at: it is known afterwards.
func TestOfferedNumberBecomesOnesOwn(t *testing.T) {
	set := handleSet{all: make(map[int]int)}
	if !set.take(4) || set.take(4) {
		t.Error("taken twice, or not at all")
	}
	set.add(4)
	if set.drop(4); set.take(4) {
		t.Error("one's own is not known")
	}
	if set.drop(4); !set.take(4) {
		t.Error("what was closed is known")
	}
	set.drop(4)
	if set.drop(4); len(set.all) != 0 {
		t.Errorf("%v is left", set.all)
	}
}

// TestServingEnds: what was closed, by whatever way, is known no more.
func TestServingEnds(t *testing.T) {
	count := func() int {
		serving.mu.Lock()
		defer serving.mu.Unlock()
		return len(serving.all)
	}
	before := count()
	l, path := listening(t)
	dialled, served := dialledTo(t, l, path)
	if known := count() - before; known != instances+1 {
		t.Errorf("%d are known, not %d", known, instances+1)
	}
	_ = served.SetDeadline(time.Now().Add(time.Minute))
	if _, err := dialled.Write([]byte("z")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(served, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	_ = served.Close()
	_ = l.Close()
	held, err := HoldName(path)
	if err != nil {
		t.Fatal(err)
	}
	held.Close()
	if known := count() - before; known != 0 {
		t.Errorf("%d are known still", known)
	}
}
