//go:build linux && !usher_portable

package claim

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
)

// seals keep either side from shortening the page under the other, which would
// end it with SIGBUS, and from changing that.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// NewPage makes a page, and a descriptor of it for the backend, which the caller
// owns. The error wraps ErrUnavailable.
func NewPage() (p *Page, fd *sock.FD, err error) {
	n, err := sealedMemory()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	fd = sock.Own(n)
	memory, err := sock.DuplicateOf(fd)
	if err == nil {
		var words []atomic.Uint64
		var unmap func()
		if words, unmap, err = mapWords(n); err == nil {
			return newPage(memory, words, unmap, 0), fd, nil
		}
		memory.Close()
	}
	fd.Close()
	return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// maxGeneration leaves room for the claims of many years.
const maxGeneration = 1 << 60

// ResumePage makes the broker's side of a page that another process has passed on: fd and
// generation are what its Pass has returned. It owns fd. What a backend has been told of the
// claims before is over: their words are used again at a higher generation alone. The error
// wraps ErrForeign.
func ResumePage(fd *sock.FD, generation uint64) (*Page, error) {
	memory, err := sock.DuplicateOf(fd)
	if err != nil {
		fd.Close()
		return nil, fmt.Errorf("%w: %v", ErrForeign, err)
	}
	received, err := ReceivePage(fd)
	if err == nil && generation > maxGeneration {
		received.unmap()
		err = fmt.Errorf("%w: generation %d", ErrForeign, generation)
	}
	if err != nil {
		memory.Close()
		return nil, err
	}
	return newPage(memory, received.words, received.unmap, generation), nil
}

func sealedMemory() (fd int, err error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err = unix.MemfdCreate("usher-claims", flags|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("usher-claims", flags)
	}
	if err != nil {
		return -1, fmt.Errorf("memfd: %w", err)
	}
	// Written, not just made longer: the memory must be there before anybody
	// needs it.
	if _, err = unix.Pwrite(fd, make([]byte, pageSize), 0); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("memfd: %w", err)
	}
	return fd, nil
}

// ReceivePage maps the page behind a descriptor that came from the broker, and closes
// the descriptor. The Page is the caller's to close. The error wraps ErrForeign: such
// memory could be taken away.
func ReceivePage(page *sock.FD) (*Page, error) {
	defer page.Close()
	fd, ok := sock.Borrow(page)
	if !ok {
		return nil, fmt.Errorf("%w: %v", ErrForeign, os.ErrClosed)
	}
	have, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: no sealed memory: %v", ErrForeign, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrForeign, err)
	}
	if have&seals != seals || st.Size != pageSize {
		return nil, fmt.Errorf("%w: %d bytes with seals %#x", ErrForeign, st.Size, have)
	}
	words, unmap, err := mapWords(fd)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrForeign, err)
	}
	return &Page{words: words, unmap: unmap}, nil
}

func mapWords(fd int) (words []atomic.Uint64, unmap func(), err error) {
	memory, err := unix.Mmap(fd, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("mmap: %w", err)
	}
	words = unsafe.Slice((*atomic.Uint64)(unsafe.Pointer(&memory[0])), Words)
	return words, func() { _ = unix.Munmap(memory) }, nil
}

// newPage makes the broker's side of a page over words in which no claim is open, and none
// has had a higher generation. It owns memory, which is where they are.
func newPage(memory *sock.FD, words []atomic.Uint64, unmap func(), generation uint64) *Page {
	p := &Page{memory: memory, words: words, unmap: unmap, claims: make([]Claim, len(words)), free: make([]uint32, len(words))}
	for i := range p.claims {
		p.claims[i] = Claim{page: p, slot: uint32(i), generation: generation}
		p.free[len(p.free)-1-i] = uint32(i)
	}
	return p
}
