package splice

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Sizes of a pipe, in bytes: the most that is on its way. It is what a pipe has by default,
// and what it grows to when more than that is there at once.
const (
	pipeSize = 64 << 10
	maxPipe  = 256 << 10
)

type pipe struct{ r, w, size int }

// spare are empty pipes that nobody uses, for those who copy: who waits holds none. Behind
// the last who copies there are none.
var spare struct {
	sync.Mutex
	pipes  []*pipe
	copies int
}

// mostSpare bounds them.
const mostSpare = 64

func begin() {
	spare.Lock()
	defer spare.Unlock()
	spare.copies++
}

func end() {
	spare.Lock()
	defer spare.Unlock()
	if spare.copies--; spare.copies > 0 {
		return
	}
	for _, p := range spare.pipes {
		p.close()
	}
	spare.pipes = nil
}

func newPipe() (*pipe, error) {
	spare.Lock()
	defer spare.Unlock()
	if last := len(spare.pipes) - 1; last >= 0 {
		p := spare.pipes[last]
		spare.pipes = spare.pipes[:last]
		return p, nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	return &pipe{fds[0], fds[1], pipeSize}, nil
}

// free gives an empty pipe back.
func (p *pipe) free() {
	spare.Lock()
	defer spare.Unlock()
	if len(spare.pipes) < mostSpare {
		spare.pipes = append(spare.pipes, p)
	} else {
		p.close()
	}
}

// grow makes room for more. A user has so much of that; without, it stays as it is.
func (p *pipe) grow() {
	if p.size < maxPipe {
		if size, err := unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, maxPipe); err == nil {
			p.size = size
		}
	}
}

func (p *pipe) close() {
	_ = unix.Close(p.r)
	_ = unix.Close(p.w)
}

// move is splice(2), without waiting. It can't block, so the scheduler is not told: else the
// first call of a process that had nothing to do wakes the runtime's monitor.
func move(to, from, most int) (n int, err error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(most), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
