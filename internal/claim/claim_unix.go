//go:build unix

package claim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
)

// eventMeans is what an event is called here.
const eventMeans = "eventfd"

// unit is the byte in a pipe claim. An eventfd yields the number 1 instead, as
// eight bytes, so that the two cannot be mistaken for one another.
const unit = 'u'

// newPipe makes a claim of a pipe. Its writing end is closed at once: after the
// byte is gone, a read says end of file, which means taken.
func newPipe() (*sock.FD, error) {
	var p [2]int
	if err := pipeCloexec(&p); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	_, err := unix.Write(p[1], []byte{unit})
	_ = unix.Close(p[1])
	if err == nil {
		err = unix.SetNonblock(p[0], true)
	}
	if err != nil {
		_ = unix.Close(p[0])
		return nil, fmt.Errorf("pipe: %w", err)
	}
	return sock.Own(p[0]), nil
}

// Receive makes a Claim of a descriptor that came with a connection, and owns
// it from then on. After an error, which wraps ErrForeign, it is closed.
// A descriptor whose read could block is refused: it would stall the receiver.
func Receive(fd *sock.FD) (*Claim, error) {
	if err := check(fd); err != nil {
		fd.Close()
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return &Claim{fd: fd}, nil
}

func check(fd *sock.FD) error {
	n, ok := sock.Borrow(fd)
	if !ok {
		return os.ErrClosed
	}
	defer sock.Return(fd)
	mode, flags, err := nature(n)
	switch {
	case err != nil:
		return err
	case !claimMode(mode):
		return fmt.Errorf("mode %#o", mode)
	case flags&unix.O_NONBLOCK == 0 || flags&unix.O_ACCMODE == unix.O_WRONLY:
		return errors.New("its read could block")
	}
	return nil
}

func take(fd *sock.FD) (bool, error) {
	own, ok := sock.Borrow(fd)
	if !ok {
		return false, fmt.Errorf("take claim: %w", unix.EBADF)
	}
	defer sock.Return(fd)
	var word [8]byte
	for {
		n, err := readNow(own, word[:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN, err == nil && n == 0:
			return false, nil
		case err != nil:
			return false, fmt.Errorf("take claim: %w", err)
		case n == len(word) && binary.NativeEndian.Uint64(word[:]) == 1, n == 1 && word[0] == unit:
			return true, nil
		}
		return false, ErrCorrupt
	}
}
