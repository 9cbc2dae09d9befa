//go:build unix

package claim

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

func unsupported() (*sock.FD, error) { return nil, errors.ErrUnsupported }

// kinds are the objects that a claim can be made of.
var kinds = map[string]kernel{
	"native": system,
	"pipe":   {eventfd: unsupported, pipe: newPipe},
}

func mustMake(t *testing.T, k kernel) *Claim {
	t.Helper()
	c, err := create(k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// received is c as another process would have it.
func received(t *testing.T, c *Claim) *Claim {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(sock.Number(c.Descriptor())), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Receive(sock.Own(fd))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	return other
}

func checkTake(t *testing.T, c *Claim, want bool) {
	t.Helper()
	if won, err := c.Take(); won != want || err != nil {
		t.Errorf("took %v, %v; want %v", won, err, want)
	}
}

func TestUnitIsTakenOnce(t *testing.T) {
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			for first := range 2 {
				c := mustMake(t, k)
				both := []*Claim{c, received(t, c)}
				checkTake(t, both[first], true)
				checkTake(t, both[first], false)
				checkTake(t, both[1-first], false)
			}
		})
	}
}

// TestUnitOutlivesOneEnd: a process that ends without taking leaves the unit to
// the other, and one that has taken takes it along.
func TestUnitOutlivesOneEnd(t *testing.T) {
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			for _, taken := range []bool{false, true} {
				c := mustMake(t, k)
				other := received(t, c)
				if taken {
					checkTake(t, other, true)
				}
				other.Close()
				other.Close()
				checkTake(t, c, !taken)
			}
		})
	}
}

func TestDescriptorFlags(t *testing.T) {
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			fd := uintptr(sock.Number(mustMake(t, k).Descriptor()))
			if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("a child would inherit it: %#x, %v", flags, err)
			}
			if flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
				t.Errorf("its read could block: %#x, %v", flags, err)
			}
		})
	}
}

func TestTakeAfterClose(t *testing.T) {
	testutil.Leaks(t)
	c := mustMake(t, system)
	c.Close()
	if won, err := c.Take(); won || !errors.Is(err, unix.EBADF) || errors.Is(err, ErrCorrupt) {
		t.Errorf("took %v, %v", won, err)
	}
}

// TestCreate walks the fallback: a kernel without eventfd is no failure, a
// failure of what it has is.
func TestCreate(t *testing.T) {
	full := func() (*sock.FD, error) { return nil, unix.EMFILE }
	forbidden := func() (*sock.FD, error) { t.Error("the pipe was asked for"); return nil, unix.EPERM }
	for name, c := range map[string]struct {
		kernel
		want error
	}{
		"eventfd":               {kernel{newNative, forbidden}, nil},
		"no eventfd":            {kernel{unsupported, newPipe}, nil},
		"eventfd fails":         {kernel{full, forbidden}, unix.EMFILE},
		"no eventfd, no pipe":   {kernel{unsupported, full}, unix.EMFILE},
		"system without either": {kernel{unsupported, unsupported}, errors.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			got, err := create(c.kernel)
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				checkTake(t, got, true)
				got.Close()
				return
			}
			if got != nil || !errors.Is(err, ErrUnavailable) || !errors.Is(err, c.want) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// newNative is what New uses first on this system.
func newNative() (*sock.FD, error) {
	fd, err := system.eventfd()
	if errors.Is(err, errors.ErrUnsupported) {
		return system.pipe()
	}
	return fd, err
}

// TestNewReportsAFullTable: no claim, no offer; nothing is left behind.
func TestNewReportsAFullTable(t *testing.T) {
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			testutil.FillTable(t)
			if c, err := create(k); c != nil || !errors.Is(err, ErrUnavailable) || !errors.Is(err, unix.EMFILE) {
				t.Errorf("got %v, %v", c, err)
			}
		})
	}
}

// pipeHolding returns the reading end of a pipe that holds data, and keeps the
// writing end open until the test ends.
func pipeHolding(t *testing.T, data []byte) (fd int) {
	t.Helper()
	var p [2]int
	if err := pipeCloexec(&p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(p[1]) })
	if err := unix.SetNonblock(p[0], true); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(p[1], data); err != nil {
		t.Fatal(err)
	}
	return p[0]
}

// TestCorruptValue: an object that holds anything but one unit decides nothing.
func TestCorruptValue(t *testing.T) {
	for name, data := range map[string][]byte{
		"other byte":   {'x'},
		"two units":    {unit, unit},
		"seven bytes":  make([]byte, 7),
		"eight zeroes": make([]byte, 8),
		"the number 2": binary.NativeEndian.AppendUint64(nil, 2),
		"a long text":  []byte("something else entirely"),
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			c, err := Receive(sock.Own(pipeHolding(t, data)))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if won, err := c.Take(); won || !errors.Is(err, ErrCorrupt) {
				t.Errorf("took %v, %v", won, err)
			}
		})
	}
}

// TestPipeWithWriter: a read that would wait means taken, as end of file does, and does
// not wait where the other side has changed the mode.
func TestPipeWithWriter(t *testing.T) {
	testutil.Leaks(t)
	c, err := Receive(sock.Own(pipeHolding(t, []byte{unit})))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	checkTake(t, c, true)
	checkTake(t, c, false)
	if err := unix.SetNonblock(sock.Number(c.Descriptor()), false); err != nil {
		t.Fatal(err)
	}
	checkTake(t, c, false)
}

// TestTakeNeverBlocks: the other side shares the descriptor's mode and may have
// made it blocking. A claim that is gone is gone at once all the same.
func TestTakeNeverBlocks(t *testing.T) {
	testutil.Leaks(t)
	for name, k := range kinds {
		c := mustMake(t, k)
		if err := unix.SetNonblock(sock.Number(c.Descriptor()), false); err != nil {
			t.Fatal(err)
		}
		for _, want := range []bool{true, false} {
			if won, err := c.Take(); won != want || err != nil {
				t.Errorf("%s: took %v, %v, want %v", name, won, err, want)
			}
		}
		c.Close()
	}
}

// TestReceiveRefuses what can't be a claim, and closes it.
func TestReceiveRefuses(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) int{
		"no descriptor": func(*testing.T) int { return -1 },
		"file": func(t *testing.T) int {
			f, err := os.CreateTemp(t.TempDir(), "")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			fd, err := unix.Dup(testutil.FD(t, f))
			if err != nil {
				t.Fatal(err)
			}
			return fd
		},
		"directory": func(t *testing.T) int { return openPath(t, t.TempDir(), unix.O_RDONLY) },
		"device":    func(t *testing.T) int { return openPath(t, os.DevNull, unix.O_RDWR|unix.O_NONBLOCK) },
		"socket": func(t *testing.T) int {
			fds := testutil.FDPair(t, unix.SOCK_STREAM)
			_ = unix.Close(fds[1])
			return fds[0]
		},
		"blocking pipe": func(t *testing.T) int {
			fd := pipeHolding(t, []byte{unit})
			if err := unix.SetNonblock(fd, false); err != nil {
				t.Fatal(err)
			}
			return fd
		},
		"write-only pipe": func(t *testing.T) int {
			var p [2]int
			if err := pipeCloexec(&p); err != nil {
				t.Fatal(err)
			}
			_ = unix.Close(p[0])
			if err := unix.SetNonblock(p[1], true); err != nil {
				t.Fatal(err)
			}
			return p[1]
		},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			fd := open(t)
			if c, err := Receive(sock.Own(fd)); c != nil || !errors.Is(err, ErrForeign) {
				t.Errorf("got %v, %v", c, err)
			}
			if fd >= 0 && testutil.IsOpen(fd) {
				t.Error("it is open still")
			}
		})
	}
}

func openPath(t *testing.T, path string, flags int) int {
	t.Helper()
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}
