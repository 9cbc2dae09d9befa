//go:build unix

package endpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
)

func adopt(path string, l *net.UnixListener, contested bool) (*Binding, error) {
	lock, err := claimPath(path, contested)
	if err != nil {
		return nil, err
	}
	file, err := takeOver(path, l)
	if err == nil {
		err = leadsHere(path)
	}
	if err != nil {
		return nil, errors.Join(err, lock.release())
	}
	l.SetUnlinkOnClose(false)
	return &Binding{Listener: l, Path: path, bound: bound{file}, lock: lock}, nil
}

// succeed trusts the predecessor that its name leads to l: it has looked all the time, and a
// connection to find out would look like a client's.
func succeed(path string, l *net.UnixListener) (*Binding, error) {
	file, err := takeOver(path, l)
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	return &Binding{Listener: l, Path: path, bound: bound{file}, unlinked: true}, nil
}

// ownLock has the Binding own the lock beside the socket, whose descriptor the predecessor
// has passed. With nil, or where that is no lock, it waits until whoever holds the lock has
// ended.
func (b *Binding) ownLock(passed *sock.FD) {
	path := b.Path + ".lock"
	if passed != nil {
		if file, err := passed.File(path); err == nil {
			if same, _ := isVisible(file, path); same && lock(file, unix.LOCK_EX|unix.LOCK_NB) == nil { // it has it already
				b.setLock(&nameLock{file: file, path: path})
				return
			}
			_ = file.Close()
		}
	}
	if l, err := lockName(path, unix.LOCK_EX); err == nil { // else there is none, as where locks can't be had
		b.setLock(l)
	}
}

// setLock has the Binding own l from now on.
func (b *Binding) setLock(l *nameLock) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		_ = l.release()
		return
	}
	b.lock = l
	l.sign()
}

// ShareLock returns a descriptor of the lock beside the socket, which the caller sends to a
// successor and then closes: that one has the lock as well. It is nil where there is none.
func (b *Binding) ShareLock() (*sock.FD, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lock == nil || b.closed {
		return nil, nil
	}
	return b.lock.share()
}

// leaveLock has the lock not be unlocked at the end.
func (b *Binding) leaveLock() {
	if b.lock != nil {
		b.lock.away = true
	}
}

// ListenAgain has the socket listen in this process' name once more: another that was to
// take it over did not.
func (b *Binding) ListenAgain() error {
	raw, err := b.Listener.SyscallConn()
	if err != nil {
		return err
	}
	var again error
	err = raw.Control(func(fd uintptr) { again = relisten(b.Path, int(fd)) })
	return errors.Join(err, again)
}

// maxBacklog asks for the longest queue that the system allows.
const maxBacklog = 1<<15 - 1

// takeOver judges l, has it listen in this process' name, and returns its file.
func takeOver(path string, l *net.UnixListener) (fs.FileInfo, error) {
	addr := l.Addr()
	switch {
	case addr.Network() != "unix":
		return nil, &ListenerError{Path: path, Reason: "is no stream socket"}
	case filepath.Clean(addr.String()) != path:
		return nil, &ListenerError{Path: path, Reason: fmt.Sprintf("is bound to %q", addr)}
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return nil, err
	}
	var judged error
	if err := raw.Control(func(fd uintptr) { judged = relisten(path, int(fd)) }); err != nil {
		return nil, err
	}
	if judged == nil {
		judged = refuseDescriptors("", "", raw)
	}
	if judged != nil {
		return nil, judged
	}
	file, err := os.Lstat(path)
	switch {
	case isMissing(err):
		return nil, ErrReplaced
	case err != nil:
		return nil, err
	case file.Mode().Type() != fs.ModeSocket:
		return nil, &NotSocketError{Path: path, Kind: kindOf(file.Mode())}
	case owner(file) != os.Geteuid():
		return nil, &ForeignListenerError{Path: path, UID: uint32(owner(file))}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, err
	}
	return file, nil
}

// relisten makes a listening socket this process' own: the kernel tells whoever connects
// who called listen last.
func relisten(path string, fd int) error {
	if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
		return &ListenerError{Path: path, Reason: "does not listen"}
	}
	return unix.Listen(fd, maxBacklog)
}

// leadsHere connects to path and reports whether this process listens there; where the
// kernel tells who bound the socket instead, whether anybody does. The connection ends
// without a byte, as that of a client that has changed its mind.
func leadsHere(path string) error {
	conn, err := sock.Dial(path)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return nil // a full queue: nobody can tell, and somebody has to serve it
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		return ErrReplaced
	case err != nil:
		return err
	}
	defer func() { _ = conn.Close() }()
	if owner, err := sock.PeerOf(conn); !tellsBinder && err == nil && owner.PID != 0 && owner.PID != os.Getpid() {
		return &InUseError{Path: path, PID: owner.PID}
	}
	return nil
}
