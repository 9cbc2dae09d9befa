package sock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/windows"
)

// This file is how handles travel (spec 02 §11): the sender duplicates them into the
// receiver's process, and sends their numbers there ahead of the message:
//
//	marker ─ how many ─ 8 bytes for each, little-endian ─ frame
//
// marker is no version of a frame, so a message that comes alone is told from it. A
// duplicate whose message could not be sent is closed in the receiver again. The serving end
// of a pipe, a broker's, takes no handles: a number that its peer makes up could be that of
// any handle of its own.

const (
	marker    = 'H'
	headLen   = 2
	handleLen = 8
)

// FD owns a handle that is made, received, or to be given away. One that is dropped without
// Close is closed when the garbage collector finds it, as an os.File is. Not safe for
// concurrent use.
type FD struct {
	n       int // -1 when it is no longer this one's
	dropped runtime.Cleanup
	near    *Channel // of a far end that Pair made; nil for others
}

// SendNow sends data, with what is lent beside it, at once or not at all, and returns
// how many bytes went. It doesn't wait, and leaves a prefix where it is.
func (c *Conn) SendNow(data []byte, with ...Lender) (int, error) {
	fd, ok := c.borrow()
	if !ok {
		return 0, net.ErrClosed
	}
	defer c.giveBack()
	if len(with) == 0 {
		return c.sendParts(fd, [][]byte{data})
	}
	pid, err := otherEnd(fd)
	if err != nil {
		return 0, err
	}
	to, err := openReceiver(pid)
	if err != nil {
		return 0, err
	}
	defer func() { _ = windows.CloseHandle(to) }()
	if err := c.pass(fd, to, data, with); err != nil {
		return 0, err
	}
	for _, l := range with {
		if f, ok := l.(*FD); ok && f.near != nil {
			err = errors.Join(err, f.near.reach(pid))
		}
	}
	return len(data), err
}

// openReceiver opens a process to duplicate handles into.
func openReceiver(pid uint32) (windows.Handle, error) {
	h, err := windows.OpenProcess(windows.PROCESS_DUP_HANDLE, false, pid)
	if err != nil {
		return 0, fmt.Errorf("open process %d to pass handles to it: %w", pid, err)
	}
	return h, nil
}

// pass duplicates what is lent into process to, and sends data there behind the numbers, or
// nothing at all: what fits a channel goes whole.
func (c *Conn) pass(fd int, to windows.Handle, data []byte, with []Lender) error {
	msg := []byte{marker, byte(len(with))}
	var there []windows.Handle
	for _, l := range with {
		h, err := duplicateInto(to, l)
		if err != nil {
			return takeBack(to, there, err)
		}
		there = append(there, h)
		msg = binary.LittleEndian.AppendUint64(msg, uint64(h))
	}
	if _, err := c.sendParts(fd, [][]byte{msg, data}); err != nil {
		return takeBack(to, there, err)
	}
	return nil
}

func duplicateInto(to windows.Handle, l Lender) (h windows.Handle, err error) {
	fd, ok := l.borrow()
	if !ok {
		return 0, syscall.EBADF
	}
	defer l.giveBack()
	return copyInto(to, windows.Handle(fd))
}

// copyInto makes another handle in process to of what h is in this one, with the same access,
// and not to be inherited.
func copyInto(to, h windows.Handle) (there windows.Handle, err error) {
	err = windows.DuplicateHandle(windows.CurrentProcess(), h, to, &there, 0, false, windows.DUPLICATE_SAME_ACCESS)
	return there, err
}

// CopyHandle makes another handle in this process of what h is, with the same access, and not
// to be inherited. The caller closes it.
func CopyHandle(h windows.Handle) (windows.Handle, error) {
	return copyInto(windows.CurrentProcess(), h)
}

// takeBack closes in process to what was duplicated there for a message that was not sent,
// because of err, which it returns, joined with ErrLeftBehind where that fails and the
// process lives.
func takeBack(to windows.Handle, there []windows.Handle, err error) error {
	for _, h := range there {
		closeErr := windows.DuplicateHandle(to, h, 0, nil, 0, false, windows.DUPLICATE_CLOSE_SOURCE)
		if closeErr != nil && !errors.Is(closeErr, windows.ERROR_INVALID_HANDLE) {
			err = errors.Join(err, fmt.Errorf("%w: %w", ErrLeftBehind, closeErr))
		}
	}
	return err
}

// reach notes that process pid has the far end: what is sent on c is for it.
func (c *Channel) reach(pid uint32) error {
	h, err := openReceiver(pid)
	if err != nil {
		return err
	}
	c.stream.sending.Lock()
	defer c.stream.sending.Unlock()
	c.stream.to = Own(int(h))
	return nil
}

// DuplicateOf returns another handle of what is lent, for another process to get; the caller
// owns it.
func DuplicateOf(l Lender) (*FD, error) {
	h, err := duplicateInto(windows.CurrentProcess(), l)
	if errors.Is(err, syscall.EBADF) {
		err = os.ErrClosed
	}
	if err != nil {
		return nil, err
	}
	return Own(int(h)), nil
}

// Duplicate answers errors.ErrUnsupported: no listener is passed on here.
func Duplicate(syscall.Conn) (*FD, error) { return nil, errors.ErrUnsupported }
