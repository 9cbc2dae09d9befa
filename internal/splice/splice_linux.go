package splice

import (
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

// pipeSize is what a pipe holds by default, in bytes: the most that is on its way.
const pipeSize = 64 << 10

type pipe struct{ r, w int }

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
	return &pipe{fds[0], fds[1]}, nil
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

func (p *pipe) close() {
	_ = unix.Close(p.r)
	_ = unix.Close(p.w)
}

// copyAll copies until the end of from, which is nil, or an error.
func copyAll(to, from Conn) error {
	begin()
	defer end()
	in, err := from.SyscallConn()
	if err != nil {
		return err
	}
	out, err := to.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var p *pipe
		var n int64
		var failed error
		err := in.Read(func(fd uintptr) bool {
			if p, failed = newPipe(); failed != nil {
				return true
			}
			if n, failed = move(p.w, int(fd), pipeSize); failed != unix.EAGAIN {
				return true
			}
			p.free()
			p, failed = nil, nil
			return false
		})
		if err == nil {
			err = failed
		}
		if err == nil && n > 0 {
			err = out.Write(func(fd uintptr) bool {
				for n > 0 && failed == nil {
					var k int64
					if k, failed = move(int(fd), p.r, int(n)); failed == unix.EAGAIN {
						failed = nil
						return false
					}
					if k == 0 && failed == nil {
						failed = io.ErrShortWrite
					}
					n -= k
				}
				return true
			})
			if err == nil {
				err = failed
			}
			if err == nil {
				p.free()
				continue
			}
		}
		switch {
		case p == nil:
		case err == nil: // the end
			p.free()
		default:
			p.close() // something may be left in it
		}
		return err
	}
}

// move is splice(2), without waiting.
func move(to, from, most int) (n int64, err error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, most, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if err != unix.EINTR {
			return max(int64(n), 0), err // an int on 32 bits
		}
	}
}

// gone waits until the peer of c has closed both directions; it is false when c has been closed
// before.
func gone(c Conn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	hangup := false
	err = raw.Read(func(fd uintptr) bool { // the poller tells of it
		fds := [1]unix.PollFd{{Fd: int32(fd)}}
		_, err := unix.Poll(fds[:], 0)
		hangup = err == nil && fds[0].Revents&unix.POLLHUP != 0
		return hangup
	})
	return err == nil && hangup
}
