// Package fdpass sends and receives descriptors beside bytes in one message
// (SCM_RIGHTS), and makes visible who owns each of them.
//
// Send borrows: the caller's descriptors stay the caller's, open or failed.
// A Receiver hands over: everything that arrived belongs to the returned
// Descriptors, and whoever holds it closes it.
//
// A leaf: of usher it imports rawsys alone.
package fdpass

import (
	"errors"
	"slices"
)

// MaxDescriptors is what one message can carry on Linux (SCM_MAX_FD). A Receiver
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
)

// Descriptors owns the descriptors of one received message until each is taken.
// The zero value owns none. Not safe for concurrent use.
type Descriptors struct {
	fds []int // -1 where taken
}

// Own makes a Descriptors that owns fds.
func Own(fds ...int) Descriptors { return Descriptors{fds: fds} }

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

// Borrow returns descriptor i without giving it away: it stays open only as
// long as d holds it.
func (d *Descriptors) Borrow(i int) int { return d.fds[i] }

// Take gives descriptor i to the caller, who closes it from now on.
func (d *Descriptors) Take(i int) int {
	fd := d.fds[i]
	d.fds[i] = -1
	return fd
}

// Close closes every descriptor that was not taken. It may be called again.
func (d *Descriptors) Close() {
	for i, fd := range d.fds {
		if fd >= 0 {
			closeFD(fd)
		}
		d.fds[i] = -1
	}
}

// Message is what one receive call returned.
type Message struct {
	N   int         // bytes in the caller's buffer; 0 with no error is end of stream
	FDs Descriptors // owned by the caller
	// Fault is ErrTruncated or ErrDescriptorsLost when the message arrived
	// damaged. Bytes and descriptors that did arrive are still in N and FDs.
	Fault error
}
