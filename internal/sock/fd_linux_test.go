package sock

import (
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// socketPair makes two descriptors that are nobody's yet.
func socketPair(t *testing.T) (a, b int) {
	t.Helper()
	fds := testutil.FDPair(t, unix.SOCK_STREAM)
	return fds[0], fds[1]
}

// TestDropped: what nobody closes, the runtime does; what has been given away or closed
// is left alone, whoever has its number by then.
func TestDropped(t *testing.T) {
	for name, drop := range map[string]func(n int){
		"descriptor": func(n int) { Own(n) },
		"connection": func(n int) { NewConn(Own(n)) },
		"connection that waited": func(n int) {
			c := NewConn(Own(n))
			_, _ = c.park()
		},
		"channel": func(n int) { NewChannel(Own(n)) },
		"taken out of a message": func(n int) {
			d := Descriptors{[]int{n}}
			d.Take(0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			a, b := socketPair(t)
			defer func() { _ = unix.Close(b) }()
			drop(a)
			testutil.WaitFor(t, "it is closed", func() bool {
				runtime.GC()
				_, err := unix.Read(b, make([]byte, 1))
				return err == nil
			})
		})
	}
}

func TestClosedAndDropped(t *testing.T) {
	testutil.Leaks(t)
	a, b := socketPair(t)
	Own(a).Close()
	NewConn(Own(b)).shut(t)
	again := make([]int, 0, 2)
	for range 2 {
		n, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		again = append(again, n)
	}
	runtime.GC()
	runtime.GC()
	for _, n := range again {
		if err := unix.Close(n); err != nil {
			t.Errorf("a descriptor with a number that was used before: %v", err)
		}
	}
}

// shut closes c, twice.
func (c *Conn) shut(t *testing.T) {
	t.Helper()
	if err := errors.Join(c.Close()); err != nil || c.Close() == nil {
		t.Error("closed twice, or not at all")
	}
}

// TestLent: what is lent stays its owner's, and what has been closed can't be lent.
func TestLent(t *testing.T) {
	testutil.Leaks(t)
	near, far := ends(t)
	a, b := socketPair(t)
	one, other := Own(a), NewConn(Own(b))
	defer one.Close()
	if err := near.Send(testMessage(t, 1, 0), one, other); err != nil {
		t.Fatal(err)
	}
	if f, n := receiveWhole(t, far); f.RequestId != 1 || n != 2 {
		t.Errorf("received %d with %d descriptors", f.RequestId, n)
	}
	if n, ok := Borrow(one); !ok || n != a || Number(other) != b {
		t.Errorf("%d, %v and %d", n, ok, Number(other))
	}
	Return(one)
	_ = other.Close()
	if err := near.Send(testMessage(t, 2, 0), one, other); !errors.Is(err, syscall.EBADF) {
		t.Errorf("lent after Close: %v", err)
	}
	if _, err := far.TryRecv(); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("something was sent: %v", err)
	}
}

// TestLeftInAMessage: what nobody took is closed when the next message comes.
func TestLeftInAMessage(t *testing.T) {
	testutil.Leaks(t)
	near, far := ends(t)
	fd := openFile(t)
	before := testutil.OpenDescriptors(t)
	sendOn(t, near, testMessage(t, 1, 0), fd, fd)
	if _, err := far.Recv(); err != nil {
		t.Fatal(err)
	}
	if _, err := far.TryRecv(); !errors.Is(err, syscall.EAGAIN) {
		t.Fatal(err)
	}
	if after := testutil.OpenDescriptors(t); after != before {
		t.Errorf("%d descriptors were open before, %d after", before, after)
	}
}

func TestFile(t *testing.T) {
	testutil.Leaks(t)
	a, b := socketPair(t)
	f, err := Own(a).File("a")
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(b)
	if n, err := f.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read %d, %v", n, err)
	}
	_ = f.Close()
	if _, err := Own(-1).File("none"); !errors.Is(err, unix.EBADF) {
		t.Errorf("of no descriptor: %v", err)
	}
}

// TestDuplicate: another descriptor of the same open file, which outlives the first, and which
// no program inherits by accident.
func TestDuplicate(t *testing.T) {
	testutil.Leaks(t)
	a, b := socketPair(t)
	f, err := Own(a).File("a")
	if err != nil {
		t.Fatal(err)
	}
	dup, err := Duplicate(f)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if _, err := unix.Write(b, []byte("x")); err != nil {
		t.Errorf("closed with the first: %v", err)
	}
	if flags, err := unix.FcntlInt(uintptr(Number(dup)), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v: it is inherited", flags, err)
	}
	if _, err := Duplicate(f); err == nil {
		t.Error("a closed one has a duplicate")
	}
	dup.Close()
	_ = unix.Close(b)
}

// TestInheritable: a copy for a program blocks, as programs expect, and is inherited by that
// alone which it is meant for.
func TestInheritable(t *testing.T) {
	testutil.Leaks(t)
	a, b := connPair(t)
	defer a.Close()
	defer b.Close()
	f, err := a.Inheritable()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		own, ownErr := unix.FcntlInt(fd, unix.F_GETFD, 0)
		mode, modeErr := unix.FcntlInt(fd, unix.F_GETFL, 0)
		if err := errors.Join(ownErr, modeErr); err != nil || own&unix.FD_CLOEXEC == 0 || mode&unix.O_NONBLOCK != 0 {
			t.Errorf("flags %#x, mode %#x, %v", own, mode, err)
		}
	})
	if err != nil {
		t.Error(err)
	}
}
