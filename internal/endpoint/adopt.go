package endpoint

import (
	"fmt"
	"net"
	"path/filepath"

	"github.com/seed-7265657e/usher/internal/sock"
)

// Adopt makes this process the only owner of a broker socket that listens already: a
// service manager made it, or kept it for a broker that has crashed.
//
//  1. judge the own user, the path's length, its directory, as Bind does
//  2. take the lock beside the socket
//  3. judge l: a Unix stream socket that listens at path
//  4. have it listen in this process' name, which is what those who connect are told,
//     mode 0600
//  5. connect to path once: it must lead here
//
// With keepName the name is left where it is at the end: it is somebody else's. The
// Binding owns l; after an error it stays the caller's. Nobody who connects from now on can
// send descriptors to it, where the kernel can refuse them; those in its queue could.
//
// Errors: those of Bind, *ListenerError, and ErrReplaced when path leads nowhere.
func Adopt(path string, l *net.UnixListener, keepName bool) (*Binding, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	b, err := adopt(path, l, true)
	if err != nil {
		return nil, fmt.Errorf("adopt %s: %w", path, thisHost().explain(path, err))
	}
	b.unlinked = keepName // nothing for Unlink and Close to remove
	return b, nil
}

// TakeOver is Adopt for the successor of a broker that still runs: l is that one's, and so
// are the name and the lock beside it until Own. The Binding owns l; after an error it stays
// the caller's.
func TakeOver(path string, l *net.UnixListener) (*Binding, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("take over: %w", err)
	}
	b, err := succeed(path, l)
	if err != nil {
		return nil, fmt.Errorf("take over %s: %w", path, thisHost().explain(path, err))
	}
	return b, nil
}

// TakePlace is TakeOver for what a predecessor has shared (SharePlace). It owns place, after an
// error too. Nobody comes here before Own where each process has a part of its own of what
// listens (Windows).
func TakePlace(path string, place *sock.FD) (*Binding, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		place.Close()
		return nil, fmt.Errorf("take over: %w", err)
	}
	b, err := takePlace(path, place)
	if err != nil {
		return nil, fmt.Errorf("take over %s: %w", path, thisHost().explain(path, err))
	}
	return b, nil
}

// AdoptBackend is Adopt for the pipe of a backend, which the broker that started it has
// bound (spec 03 §11). The name is that broker's choice and nobody else's, so there is no
// lock; the Binding removes it at the end.
func AdoptBackend(path string, l *net.UnixListener) (*Binding, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("adopt backend pipe: %w", err)
	}
	b, err := adopt(path, l, false)
	if err != nil {
		return nil, fmt.Errorf("adopt backend pipe %s: %w", path, thisHost().explain(path, err))
	}
	return b, nil
}

// Own makes what TakeOver has left to the predecessor this Binding's own. The name is
// removed at the end, unless keepName says that it is somebody else's. lock is what the
// predecessor's ShareLock has returned, and the Binding's from the call on; with nil the lock
// is taken as soon as that one has ended, until when nobody else can take the socket: it is
// served. (On Windows the name has been this one's before, and the Binding's pipe is made.)
func (b *Binding) Own(lock *sock.FD, keepName bool) {
	b.mu.Lock()
	b.unlinked = keepName
	b.mu.Unlock()
	b.own(lock)
}

// Disown leaves the name to a successor, and the lock, if that was passed on (ShareLock):
// who unlocks it would unlock it for the successor as well.
func (b *Binding) Disown(lock bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unlinked = true
	if lock {
		b.leaveLock()
	}
}

// ListenerError reports a socket that can't be adopted.
type ListenerError struct {
	Path   string // where it should listen
	Reason string
}

func (e *ListenerError) Error() string {
	return fmt.Sprintf("the socket that was passed to this process %s: have whoever starts it pass a Unix stream socket that listens at %s, or name the path that it listens at", e.Reason, e.Path)
}
