//go:build linux && !usher_portable

package splice

import (
	"context"
	"errors"
	"io"
	"slices"

	"golang.org/x/sys/unix"
)

// Both connections are in an epoll set of their own, and that is one descriptor in the
// runtime's poller: one goroutine carries both directions, and is woken for what it can do
// something about. The poller itself would wake it for room to write as well, each time a
// reader has read.

// joint is two connections that are joined.
type joint struct {
	set     *set
	ways    [2]way
	watched []watched // the descriptors of both: two of sockets, up to four of pipes
}

// watched is a descriptor with what it is in the set for; 0: it is not.
type watched struct {
	fd     int
	events uint32
}

// way is one direction. What it has read and not written is in its pipe.
//
//	idle ──something to read──▶ loaded ──all written──▶ idle
//	 └──────────the end, or an error───────┴─▶ over ──endWay──▶ ended
type way struct {
	from, to      Conn
	reads, writes int // their descriptors, good until it has ended
	pipe          *pipe
	loaded        int
	over, ended   bool
	err           error // why it is over; once it has ended, what Join returns of it
}

// join carries both directions on the caller's goroutine.
func join(ctx context.Context, a, b Conn) error {
	begin()
	defer end()
	set, err := newSet()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, set.interrupt)
	j := &joint{set: set, ways: [2]way{{from: a, to: b}, {from: b, to: a}}}
	err = j.run()
	j.close()
	if stop() && err == nil { // nobody is about to interrupt it, and nothing is in it
		set.free()
	} else {
		set.close()
	}
	return errors.Join(err, j.ways[0].err, j.ways[1].err)
}

// run returns when both directions have ended, with nothing left in the set.
func (j *joint) run() error {
	if err := j.open(); err != nil {
		return err
	}
	for {
		j.ways[0].move()
		j.ways[1].move()
		if err := j.settle(); err != nil || j.ways[0].ended && j.ways[1].ended {
			return err
		}
		if err := j.set.await(); err != nil {
			return err
		}
		if j.gone() {
			j.ways[1].end(nil)
		}
	}
}

// forgoes reports whether nothing comes from a any more while b may have something to say.
func (j *joint) forgoes() bool { return j.ways[0].over && !j.ways[1].over }

// gone reports whether a's peer has closed both directions.
func (j *joint) gone() bool {
	if !j.forgoes() {
		return false
	}
	a := []unix.PollFd{{Fd: int32(j.ways[1].writes)}}
	_, err := unix.Poll(a, 0)
	return err == nil && a[0].Revents&unix.POLLHUP != 0
}

func (j *joint) close() {
	for _, w := range j.ways {
		if w.pipe != nil {
			w.pipe.close() // something is left in it
		}
	}
}

// open asks for the descriptors. They stay what they are: nobody but Join closes the
// connections.
func (j *joint) open() error {
	for i := range j.ways {
		w := &j.ways[i]
		from, err := w.from.SyscallConn()
		if err != nil {
			return err
		}
		to, err := w.to.SyscallConn()
		if err != nil {
			return err
		}
		err = errors.Join(
			from.Read(func(fd uintptr) bool { w.reads = int(fd); return true }),
			to.Write(func(fd uintptr) bool { w.writes = int(fd); return true }),
		)
		if err != nil {
			return err
		}
		for _, fd := range []int{w.reads, w.writes} {
			if !slices.ContainsFunc(j.watched, func(d watched) bool { return d.fd == fd }) {
				j.watched = append(j.watched, watched{fd: fd})
			}
		}
	}
	return nil
}

// settle has the set tell what each direction waits for, something to read or room to write,
// and ends those that are over. What nobody waits for is not in the set, which would tell of
// its end again and again; nor is what endWay may close. But a is, to be told once when its
// peer has gone.
func (j *joint) settle() error {
	for i := range j.watched {
		if err := j.watch(&j.watched[i]); err != nil {
			return err
		}
	}
	for i := range j.ways {
		if w := &j.ways[i]; w.over && !w.ended {
			w.ended, w.err = true, endWay(w.to, w.from, w.err)
		}
	}
	return nil
}

func (j *joint) watch(d *watched) error {
	var events uint32
	for i := range j.ways {
		switch w := &j.ways[i]; {
		case w.over:
		case w.loaded > 0 && w.writes == d.fd:
			events |= unix.EPOLLOUT
		case w.loaded == 0 && w.reads == d.fd:
			events |= unix.EPOLLIN
		}
	}
	if events == 0 && d.fd == j.ways[1].writes && d.fd == j.ways[0].reads && j.forgoes() {
		events = unix.EPOLLET
	}
	err := j.set.change(d.fd, d.events, events)
	d.events = events
	return err
}

// atOnce is how many full pipes one direction moves before the other has its turn.
const atOnce = 4

// move moves what can be moved now.
func (w *way) move() {
	for range atOnce {
		if w.over {
			return
		}
		if w.loaded == 0 && !w.load() {
			return
		}
		size := w.loaded
		for w.loaded > 0 {
			n, err := move(w.writes, w.pipe.r, w.loaded)
			switch {
			case err == unix.EAGAIN:
				return
			case err == nil && n == 0:
				err = io.ErrShortWrite
				fallthrough
			case err != nil:
				w.end(err)
				return
			}
			w.loaded -= n
		}
		more := size >= w.pipe.size
		if more {
			w.pipe.grow()
		}
		w.pipe.free()
		w.pipe = nil
		if !more { // if there is, the set says so
			return
		}
	}
}

// load reads, and is false where there is nothing.
func (w *way) load() bool {
	p, err := newPipe()
	if err != nil {
		w.end(err)
		return false
	}
	n, err := move(p.w, w.reads, p.size)
	if err == nil && n > 0 {
		w.pipe, w.loaded = p, n
		return true
	}
	p.free()
	if err != unix.EAGAIN {
		w.end(err) // nil is the end
	}
	return false
}

// end notes why the direction is over: nil for the end of what it reads.
func (w *way) end(err error) { w.over, w.err = true, err }
