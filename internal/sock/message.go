package sock

import (
	"errors"
	"slices"
	"syscall"

	"github.com/seed-7265657e/usher/internal/errno"
)

// MaxDescriptors is what one message can carry on Linux (SCM_MAX_FD). A receiver
// has room for all of them, so that it can count what a hostile peer sent and close
// every one.
const MaxDescriptors = 253

var (
	// ErrTruncated says that the message was longer than the buffer. Its tail
	// is lost.
	ErrTruncated = errors.New("message is longer than the receive buffer")
	// ErrDescriptorsLost says that the kernel dropped descriptors on their way
	// in (MSG_CTRUNC), usually because this process' descriptor table is full.
	ErrDescriptorsLost = errors.New("descriptors were lost on receipt: the descriptor table is probably full (see ulimit -n)")
	// ErrKind says that a descriptor is not what its place in the message
	// calls for.
	ErrKind = errors.New("descriptor of the wrong kind")
	// ErrLeftBehind says that a message was not sent, and that what was to go beside it
	// stays open in the process that it was for, until that ends: on Windows, where
	// a handle is there before the message, and is closed there again.
	ErrLeftBehind = errors.New("a handle stays open in the receiving process")
)

// Descriptors owns the descriptors of one received message until each is taken, and
// names them by their places in it, from 0. The zero value owns none. Not safe for
// concurrent use.
type Descriptors struct {
	fds []int // -1 where taken
}

// Move returns a Descriptors of its own that owns what d owned.
func (d *Descriptors) Move() Descriptors {
	moved := Descriptors{fds: slices.Clone(d.fds)}
	for i := range d.fds {
		d.fds[i] = -1
	}
	return moved
}

// Len returns how many descriptors arrived, taken ones included.
func (d *Descriptors) Len() int { return len(d.fds) }

// Take gives descriptor i to the caller.
func (d *Descriptors) Take(i int) *FD { return Own(d.take(i)) }

// TakeConn gives descriptor i, a connected Unix socket, to the caller. A Conn that is
// dropped is closed only once CloseWhenDropped was called.
func (d *Descriptors) TakeConn(i int) *Conn {
	n := d.take(i)
	if modeDecides {
		_ = setNonblock(n, true) // fails on what is no descriptor, as all else will
	}
	return newConn(n)
}

func (d *Descriptors) take(i int) int {
	n := d.fds[i]
	d.fds[i] = -1
	return n
}

// CheckConnection reports whether descriptor i is a connected Unix stream socket that
// is no listener; else the error wraps ErrKind and says what it is. It neither reads nor
// writes.
func (d *Descriptors) CheckConnection(i int) error { return checkConnection(d.fds[i]) }

// PeerOf returns who is at the other end of descriptor i, a socket.
func (d *Descriptors) PeerOf(i int) (Credentials, error) { return peerOf(d.fds[i]) }

// Close closes every descriptor that was not taken. It may be called again.
func (d *Descriptors) Close() {
	for i, fd := range d.fds {
		if fd >= 0 {
			closeFD(fd)
		}
		d.fds[i] = -1
	}
}

// Received is what one receive call returned.
type Received struct {
	N   int         // bytes in the caller's buffer; 0 with no error is end of stream
	FDs Descriptors // owned by the caller
	// Fault is ErrTruncated or ErrDescriptorsLost when the message arrived
	// damaged. Bytes and descriptors that did arrive are still in N and FDs.
	Fault error
}

// Receive reads into buf the next bytes that arrive on c, which it borrows, and what
// came beside them. It waits within c's read deadline.
func Receive(c syscall.Conn, buf []byte) (Received, error) { return receive(c, new(receiver), buf) }

// receive receives the next message, as soon as there is one.
func receive(c syscall.Conn, in *receiver, buf []byte) (m Received, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return m, closed(err)
	}
	waitErr := raw.Read(func(fd uintptr) bool {
		m, err = in.recv(int(fd), buf)
		return !errors.Is(err, errno.EAGAIN)
	})
	if waitErr != nil {
		return Received{}, closed(waitErr)
	}
	return m, err
}

// send sends data, with what is lent beside it, in one message, and returns how many
// bytes went. It never blocks. A count below len(data) happens on byte streams only: the
// descriptors have then travelled with the first byte. One that can't be lent any more
// is EBADF, and nothing is sent.
func send(sock int, data []byte, with []Lender) (sent int, err error) {
	var few [usualFDs]int
	fds := few[:0]
	lent := 0
	for _, l := range with {
		fd, ok := l.borrow()
		if !ok {
			err = errno.EBADF
			break
		}
		lent++
		fds = append(fds, fd)
	}
	if err == nil {
		sent, err = sendRights(sock, data, fds)
	}
	for _, l := range with[:lent] {
		l.giveBack()
	}
	return sent, err
}

// usualFDs is what a message of usher's carries at most.
const usualFDs = 2

// SendRaw is SendNow between connections of package net: beside data goes conn, or
// nothing when it is nil.
func SendRaw(to syscall.Conn, data []byte, conn syscall.RawConn) (sent int, err error) {
	err = withFD(to, func(sock int) error {
		if conn == nil {
			sent, err = sendRights(sock, data, nil)
			return err
		}
		ctlErr := conn.Control(func(fd uintptr) { sent, err = sendRights(sock, data, []int{int(fd)}) })
		return errors.Join(ctlErr, err)
	})
	return sent, err
}

// SetNonblock changes the mode of conn's descriptor, for every holder of it.
func SetNonblock(conn syscall.RawConn, on bool) (err error) {
	ctlErr := conn.Control(func(fd uintptr) { err = setNonblock(int(fd), on) })
	return errors.Join(ctlErr, err)
}

// withFD runs f with c's descriptor, which stays open meanwhile.
func withFD(c syscall.Conn, f func(fd int) error) (err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	ctlErr := raw.Control(func(fd uintptr) { err = f(int(fd)) })
	return errors.Join(ctlErr, err)
}
