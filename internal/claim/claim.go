// Package claim holds the shared object that decides who owns a connection in
// flight.
//
// A claim holds one unit. The broker makes it, sends it beside the connection,
// and whoever takes the unit owns the connection: nobody reads, peeks at or
// writes to the connection without having taken it (docs/protocol.md, section
// "The claim"). Taking it twice is impossible, in whatever process and however
// long one side was frozen.
//
// Between an usher broker and an usher backend on Linux it is a word in a page of
// memory that the two share (Page). Otherwise it is a descriptor that travels
// beside the connection: an eventfd with the value 1; where the kernel has none,
// and on other Unix systems, a pipe with one byte in it. Both sides take that by
// the same non-blocking read. On Windows it is an event that a wait resets.
//
// A leaf: of usher it imports sock alone. A Claim owns its descriptor; the peer's
// copy is the peer's. A Page owns its mapping.
package claim

import (
	"errors"
	"fmt"

	"github.com/seed-7265657e/usher/internal/sock"
)

var (
	// ErrForeign says that a received descriptor cannot be a claim.
	ErrForeign = errors.New("descriptor is not a claim")
	// ErrCorrupt says that the object held something other than one unit. Who
	// owns the connection is then unknown.
	ErrCorrupt = errors.New("claim held an unexpected value")
	// ErrUnavailable says that this system or process could make no claim. The
	// connection must not be offered then; the client reconnects.
	ErrUnavailable = errors.New("no claim object to be had")
)

// Claim is one process' side of the shared object. Not safe for concurrent use
// with Close.
type Claim struct {
	fd *sock.FD // nil in a page

	page       *Page // nil for a descriptor
	slot       uint32
	generation uint64
	received   bool // the backend's side of it
	open       bool // the broker's side: between New and Close; guarded by page.mu
}

// New makes a claim that holds its unit. The caller closes it. The error wraps
// ErrUnavailable.
func New() (*Claim, error) { return create(system) }

func create(k kernel) (*Claim, error) {
	fd, err := k.eventfd()
	if errors.Is(err, errors.ErrUnsupported) {
		fd, err = k.pipe()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return &Claim{fd: fd}, nil
}

// kernel is the seam to the operating system, replaced in tests. A function
// returns a non-blocking, close-on-exec descriptor whose read, or on Windows a wait for it,
// yields the unit once, or errors.ErrUnsupported where the system has no such object.
type kernel struct {
	eventfd func() (*sock.FD, error)
	pipe    func() (*sock.FD, error)
}

// Means says what claims are here: words of a "page", an "eventfd", an "event" of Windows or
// a "pipe".
func Means() string {
	if page, fd, err := NewPage(); err == nil {
		fd.Close()
		page.Close()
		return "page"
	}
	for _, kind := range []struct {
		name string
		make func() (*sock.FD, error)
	}{{eventMeans, system.eventfd}, {"pipe", system.pipe}} {
		if fd, err := kind.make(); err == nil {
			fd.Close()
			return kind.name
		}
	}
	return "none"
}

// Descriptor is what is to be lent to a backend beside the connection; nil in a page.
func (c *Claim) Descriptor() *sock.FD { return c.fd }

// Take tries to take the unit. True means that this process, and no other,
// owns the connection from now on; false that the other side took it first.
// It never blocks. The error wraps ErrCorrupt, or is the system's; ownership is
// then unknown.
func (c *Claim) Take() (bool, error) {
	if c.page != nil {
		return c.takeWord()
	}
	return take(c.fd)
}

// Close closes this process' side. The unit of a descriptor, taken or not, stays
// with the object; a word in a page is over when the broker closes it. It may be
// called again.
func (c *Claim) Close() {
	if c.page != nil {
		c.closeWord()
		return
	}
	c.fd.Close()
}
