//go:build unix

package endpoint

import (
	"errors"
	"net"

	"github.com/seed-7265657e/usher/internal/sock"
)

// SharePlace returns what a successor makes a Binding of (TakePlace): the listening socket.
// The caller closes it.
func (b *Binding) SharePlace() (*sock.FD, error) { return sock.Duplicate(b.Listener) }

func takePlace(path string, place *sock.FD) (*Binding, error) {
	file, err := place.File("listener")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	l, err := net.FileListener(file) // a copy
	if err != nil {
		return nil, err
	}
	listener, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(errors.New("it is no Unix socket"), l.Close())
	}
	b, err := succeed(path, listener)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return b, nil
}

// Withdraw is true: the kernel takes no word more from a successor whose predecessor has ended
// reading (sock.Channel.EndReading).
func (*Binding) Withdraw() bool { return true }

// ClaimPlace does nothing: who has the socket may begin once he has said so.
func (*Binding) ClaimPlace(*sock.FD) error { return nil }

func (b *Binding) own(lock *sock.FD) { go b.ownLock(lock) }

// Rest is nil: who has come is in a queue that the successor has, too.
func (*Binding) Rest() []*sock.Conn { return nil }
