//go:build unix

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
)

// lockFlags: write access, because the owner's pid goes into the file; no
// symlink is followed.
const lockFlags = os.O_CREATE | os.O_RDWR | unix.O_NOFOLLOW

// fullPasses: a socket whose queue is full has a server that does not come by.
const fullPasses = false

// CheckIsSocket returns nil where path leads to a socket.
func CheckIsSocket(path string) error {
	fi, err := os.Lstat(path)
	if err == nil && fi.Mode().Type() != fs.ModeSocket {
		err = fmt.Errorf("%s is no socket", path)
	}
	return err
}

// bound is what a Binding knows of its socket beside the listener.
type bound struct {
	file fs.FileInfo // the socket file as bound; its inode can't be reused while Listener is open
}

// Accepting accepts from the socket, which the Binding keeps open, without waiting.
func (b *Binding) Accepting() (*sock.Listener, error) { return sock.ListenerOf(b.Listener) }

// check must be called with mu held and the listener open.
func (b *Binding) check() error {
	now, err := os.Lstat(b.Path)
	if isMissing(err) || err == nil && !os.SameFile(now, b.file) {
		return fmt.Errorf("%s: %w", b.Path, ErrReplaced)
	}
	return err
}

func (b *Binding) removeName() error { return os.Remove(b.Path) }

func (b *Binding) closeListener() error { return b.Listener.Close() }

// bind is Bind, for the kind of socket that is wanted.
func bind(path string, kind socketKind) (_ *Binding, err error) {
	lock, err := claimPath(path, kind.contested)
	if err != nil {
		return nil, err
	}
	stale := false
	if kind.contested {
		if stale, err = isStale(path); err != nil {
			return nil, errors.Join(err, lock.release())
		}
	}
	b, err := listen(path, kind, stale)
	if err != nil {
		return nil, errors.Join(err, lock.release())
	}
	b.lock = lock
	return b, nil
}

// claimPath judges who wants to own path, and where it lies, and takes the lock beside a
// contested one.
func claimPath(path string, contested bool) (*nameLock, error) {
	if os.Geteuid() == sock.OverflowUID {
		return nil, ErrUnnamedUser
	}
	if err := CheckLength(path); err != nil {
		return nil, err
	}
	if err := ensureParent(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if !contested {
		return nil, nil
	}
	return takeLock(path+".lock", path)
}

// isStale reports whether a socket is at path that nobody serves any more. The caller holds
// the lock, so no process that follows the same rule is between its own probe and bind.
func isStale(path string) (bool, error) {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return false, &NotSocketError{Path: path, Kind: kindOf(fi.Mode())}
	}
	conn, err := sock.Dial(path)
	switch {
	case err == nil:
		defer func() { _ = conn.Close() }()
		owner, _ := sock.PeerOf(conn) // for people alone
		return false, &InUseError{Path: path, PID: owner.PID}
	case errors.Is(err, unix.EAGAIN):
		return false, &InUseError{Path: path} // its queue is full: overloaded, but there
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case errors.Is(err, unix.ECONNREFUSED):
		return true, nil
	}
	return false, fmt.Errorf("can't tell whether the socket is in use; remove it if nothing serves it: %w", err)
}

// listen binds path, which must be free, or a stale socket's: that is removed right before,
// because clients wait for the successor of a dead broker, but not for a name that is not
// there. Between bind and chmod the socket may be open to more than its owner, but the
// directory above it is not.
func listen(path string, kind socketKind, stale bool) (*Binding, error) {
	config := net.ListenConfig{Control: func(network, address string, raw syscall.RawConn) error {
		if !kind.descriptors {
			if err := refuseDescriptors(network, address, raw); err != nil {
				return err
			}
		}
		if stale {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	}}
	listener, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		if errors.Is(err, unix.EADDRINUSE) {
			return nil, &InUseError{Path: path}
		}
		return nil, err
	}
	l := listener.(*net.UnixListener)
	l.SetUnlinkOnClose(false) // Close removes the file only if it is still ours
	err = os.Chmod(path, 0o600)
	if err == nil {
		var fi fs.FileInfo
		if fi, err = os.Lstat(path); err == nil {
			return &Binding{Listener: l, Path: path, bound: bound{fi}}, nil
		}
	}
	return nil, errors.Join(err, os.Remove(path), l.Close())
}

// blocking is a copy of l in blocking mode, which is that of all its copies.
func blocking(l *net.UnixListener) (*os.File, error) {
	file, err := l.File()
	if err != nil {
		return nil, err
	}
	raw, err := file.SyscallConn()
	if err == nil {
		var set error
		err = raw.Control(func(fd uintptr) { set = unix.SetNonblock(int(fd), false) })
		err = errors.Join(err, set)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return "regular file"
	case mode.IsDir():
		return "directory"
	case mode&fs.ModeSymlink != 0:
		return "symbolic link"
	}
	return "special file"
}
