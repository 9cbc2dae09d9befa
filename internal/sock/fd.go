package sock

import (
	"os"
	"runtime"
)

// Own makes an FD of a descriptor that the system has just given out, and owns it.
func Own(n int) *FD {
	f := &FD{n: n}
	f.dropped = runtime.AddCleanup(f, closeFD, n)
	return f
}

// take ends the ownership, and returns what was owned; -1 when nothing was.
func (f *FD) take() int {
	n := f.n
	f.n = -1
	f.dropped.Stop()
	return n
}

// Close closes the descriptor, if it is still owned. It may be called again.
func (f *FD) Close() {
	if n := f.take(); n >= 0 {
		closeFD(n)
	}
}

// File makes a file of the descriptor, which the file owns from then on, in
// non-blocking mode, so that the runtime polls it. After an error it is closed.
func (f *FD) File(name string) (*os.File, error) {
	n := f.take()
	if err := setNonblock(n, true); err != nil {
		closeFD(n)
		return nil, err
	}
	return os.NewFile(uintptr(n), name), nil
}

// Lender is what has a descriptor and lends it: an FD, a Conn, a Listener, a Channel, and
// what embeds one. A descriptor that is lent stays open until it is returned, and is
// neither closed nor read in blocking mode by who has borrowed it.
type Lender interface {
	borrow() (n int, ok bool)
	giveBack()
	number() int
}

// Borrow is for the leaves that make system calls of their own; it is false once l has
// been closed. Return ends it.
func Borrow(l Lender) (n int, ok bool) { return l.borrow() }

// Return ends a Borrow.
func Return(l Lender) { l.giveBack() }

// Number is what l's descriptor is called, or was until l was closed: then it may be
// somebody else's.
func Number(l Lender) int { return l.number() }

func (f *FD) borrow() (int, bool) { return f.n, f.n >= 0 }

func (f *FD) giveBack() { runtime.KeepAlive(f) }

func (f *FD) number() int { return f.n }
