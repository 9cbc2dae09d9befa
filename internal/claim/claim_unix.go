//go:build unix

package claim

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// unit is the byte in a pipe claim. An eventfd yields the number 1 instead, as
// eight bytes, so that the two cannot be mistaken for one another.
const unit = 'u'

// newPipe makes a claim of a pipe. Its writing end is closed at once: after the
// byte is gone, a read says end of file, which means taken.
func newPipe() (int, error) {
	var p [2]int
	if err := pipeCloexec(&p); err != nil {
		return -1, fmt.Errorf("pipe: %w", err)
	}
	_, err := unix.Write(p[1], []byte{unit})
	_ = unix.Close(p[1])
	if err == nil {
		err = unix.SetNonblock(p[0], true)
	}
	if err != nil {
		_ = unix.Close(p[0])
		return -1, fmt.Errorf("pipe: %w", err)
	}
	return p[0], nil
}

// Receive makes a Claim of a descriptor that came with a connection, and owns
// it from then on; on an error, which wraps ErrForeign, fd stays the caller's.
// A descriptor whose read could block is refused: it would stall the receiver.
func Receive(fd int) (*Claim, error) {
	mode, flags, err := nature(fd)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrForeign, err)
	}
	if !claimMode(mode) {
		return nil, fmt.Errorf("%w: mode %#o", ErrForeign, mode)
	}
	if flags&unix.O_NONBLOCK == 0 || flags&unix.O_ACCMODE == unix.O_WRONLY {
		return nil, fmt.Errorf("%w: its read could block", ErrForeign)
	}
	return &Claim{fd: fd}, nil
}

func take(fd int) (bool, error) {
	var word [8]byte
	for {
		n, err := readNow(fd, word[:])
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

func (c *Claim) closeFD() {
	if c.fd >= 0 {
		closeFD(c.fd)
	}
	c.fd = -1
}
