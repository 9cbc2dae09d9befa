package endpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"sync"
	"syscall"
)

// Binding is a bound socket that this process alone owns.
//
//	bound ──Unlink──▶ draining ──Close──▶ closed
//	  └──────────────Close────────────────▶
//
// bound: new clients reach Listener. draining: the name is gone, so no new client
// arrives, and those already in the queue can still be accepted. The lock is held
// until closed, so a successor can't bind while the predecessor drains.
//
// The Binding owns the listener and the lock. Its methods are safe for concurrent
// use.
type Binding struct {
	Listener *net.UnixListener // nil on Windows, where it is a named pipe
	Path     string

	bound
	lock *nameLock // nil for a name that nobody else can choose

	mu       sync.Mutex
	unlinked bool
	closed   bool
}

// Bind makes this process the only owner of a broker socket:
//
//  1. judge the own user, the path's length, its directory (created with 0700 if
//     missing) and every directory above that
//  2. take the lock beside the socket, and make sure that it is the lock others see
//  3. remove a socket that refuses connections; anything else in the way is an error
//  4. bind, mode 0600, listen
//
// Errors: ErrUnnamedUser, *PathTooLongError, *InsecureDirError, *InUseError, *NotSocketError,
// *VariableError when the environment led to a directory of another user;
// errors.ErrUnsupported where there are no Unix sockets of this kind.
//
// Nobody can send descriptors to it, where the kernel can refuse them.
func Bind(path string) (*Binding, error) { return bindAs("bind", path, socketKind{contested: true}) }

// socketKind is what is particular to a socket.
type socketKind struct {
	contested   bool // others may want the same path: take the lock, and clear away what a dead owner left
	descriptors bool // peers send descriptors
}

// bindAs binds path, made absolute: it is told to others, and this process may go
// to another directory. what begins the text of an error.
func bindAs(what, path string, kind socketKind) (*Binding, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	b, err := bind(path, kind)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", what, path, thisHost().explain(path, err))
	}
	return b, nil
}

// Check reports whether the path still leads to this listener. It is ErrReplaced
// when it certainly does not, also after Unlink; any other error says that the
// path can't be looked at now, and nothing about who has it.
func (b *Binding) Check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.check()
}

// isMissing reports whether err says that a path leads nowhere: the name is not
// there, or a file stands where a directory was.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// Unlink removes the socket file if it is still this Binding's, and leaves the
// listener open: what is queued can still be accepted. It may be called again,
// and after an error it tries again.
func (b *Binding) Unlink() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unlink()
}

func (b *Binding) unlink() error {
	if b.unlinked || b.closed {
		return nil
	}
	err := b.check()
	if err == nil {
		err = b.removeName()
	}
	if err == nil || errors.Is(err, ErrReplaced) || isMissing(err) { // not there, or not ours: nothing to remove
		b.unlinked = true
		return nil
	}
	return err
}

// Leave closes the listener here and leaves the socket file: another process has the
// socket too.
func (b *Binding) Leave() error {
	b.mu.Lock()
	b.unlinked = true
	b.mu.Unlock()
	return b.Close()
}

// Close removes the socket file if it is still this Binding's, closes the
// listener and releases the lock, in this order: the open listener keeps the
// inode from being reused until it was compared, and the lock keeps successors
// away until the name is free. The lock file stays. Close may be called twice.
func (b *Binding) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	err := errors.Join(b.unlink(), b.closeListener())
	b.closed = true
	return errors.Join(err, b.lock.release())
}
