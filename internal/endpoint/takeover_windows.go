package endpoint

import (
	"errors"
	"fmt"

	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/sock"
)

// A pipe has no queue that two processes could share: each has instances of its own, and a
// client gets one of either. So a successor gets the pipe by which the name's owner is known,
// which nobody else can have while one of the two holds it, and makes its own instances of the
// other when it begins. What decides between the two is a claim: who takes it has the place.
//
//	this one's ──SharePlace──▶ both hold the name ──ShareLock──▶ offered ──ClaimPlace──▶ the successor's
//	    ▲                                                           │
//	    └────────────────────────────Withdraw───────────────────────┘
//
// Whoever has come to an instance of the one that goes is passed on by it (Rest).

// SharePlace returns what a successor makes a Binding of (TakePlace): the pipe by which the
// name's owner is known. The caller closes it.
func (b *Binding) SharePlace() (*sock.FD, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return sock.DuplicateOf(b.lock.held)
}

func takePlace(path string, place *sock.FD) (*Binding, error) {
	pipe, err := sock.Prepare(path)
	if err != nil {
		place.Close()
		return nil, err
	}
	return &Binding{Path: path, bound: bound{pipe: pipe}, lock: &nameLock{place}, unlinked: true}, nil
}

// ShareLock returns the claim that a successor takes to begin. The caller closes it.
func (b *Binding) ShareLock() (*sock.FD, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	place, err := claim.New()
	if err != nil {
		return nil, err
	}
	if b.place != nil {
		b.place.Close()
	}
	b.place = place
	return sock.DuplicateOf(place.Descriptor())
}

// Withdraw takes back what ShareLock has offered. It is false where the successor has taken it.
func (b *Binding) Withdraw() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.place == nil {
		return true
	}
	won, err := b.place.Take()
	return won && err == nil
}

// ClaimPlace takes what the predecessor's ShareLock has returned. Then that one does not go on,
// unless this process ends before it has said that it begins. The error is ErrWithdrawn where it
// is too late for that.
func (*Binding) ClaimPlace(offered *sock.FD) error {
	if offered == nil {
		return errors.New("the other broker has not offered its place")
	}
	place, err := claim.Receive(offered)
	if err != nil {
		return fmt.Errorf("the place of the other broker: %w", err)
	}
	defer place.Close()
	won, err := place.Take()
	if err == nil && !won {
		err = ErrWithdrawn
	}
	return err
}

// Rest has nobody come here any more, and returns who has come and was not accepted.
func (b *Binding) Rest() (all []*sock.Conn) {
	_ = b.pipe.Shutdown()
	for {
		c, err := b.pipe.Accept()
		if err != nil {
			return all
		}
		all = append(all, c)
	}
}

// own has clients come here, too. The name has been this one's since takePlace.
func (b *Binding) own(*sock.FD) { b.pipe.Open() }

func (*Binding) leaveLock() {}

// ListenAgain does nothing: who is told the pid of whom is the instance's.
func (*Binding) ListenAgain() error { return nil }
