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

// state is that of two connections that are joined.
type state struct {
	set     *set // nil until join
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
	reads, writes int  // their descriptors, good until it has ended
	sockets       bool // both are, else one is a pipe
	small         bool // what comes is copied: the last was small
	pipe          *pipe
	loaded        int
	over, ended   bool
	err           error // why it is over; once it has ended, what Join returns of it
}

// try is Joint.Try. It takes no part in what spare is for.
func (j *state) try(a, b Conn) bool {
	if j.ask(a, b) != nil { // join says why
		return false
	}
	quiet := true
	for i := range j.ways {
		if w := &j.ways[i]; !w.over {
			quiet = w.small && !w.copy() && w.loaded == 0 && quiet
		}
	}
	j.notice()
	if a, b := j.open(); a || b { // else both are about to be closed
		j.end()
	}
	return quiet
}

func (j *state) open() (a, b bool) { return !j.ways[0].over, !j.ways[1].over }

// join carries both directions on the caller's goroutine.
func (j *state) join(ctx context.Context, a, b Conn) error {
	begin()
	defer end()
	defer j.close()
	if err := j.ask(a, b); err != nil {
		return err
	}
	var err error
	if j.set, err = newSet(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, j.set.interrupt)
	err = j.run()
	if stop() && err == nil { // nobody is about to interrupt it, and nothing is in it
		j.set.free()
	} else {
		j.set.close()
	}
	return errors.Join(err, j.ways[0].err, j.ways[1].err)
}

// run returns when both directions have ended, with nothing left in the set.
func (j *state) run() error {
	for {
		j.ways[0].move()
		j.ways[1].move()
		if err := j.settle(); err != nil || j.ways[0].ended && j.ways[1].ended {
			return err
		}
		if err := j.set.await(); err != nil {
			return err
		}
		j.notice()
	}
}

// forgoes reports whether nothing comes from a any more while b may have something to say.
func (j *state) forgoes() bool { return j.ways[0].over && !j.ways[1].over }

// notice ends what b may still have to say when a's peer has closed both directions.
func (j *state) notice() {
	if j.forgoes() && hungUp(j.ways[1].writes) {
		j.ways[1].end(nil)
	}
}

func (j *state) close() {
	for _, w := range j.ways {
		if w.pipe != nil {
			w.pipe.close() // something is left in it
		}
	}
}

// ask asks for the descriptors, the first time. They stay what they are: nobody but Join
// closes the connections.
func (j *state) ask(a, b Conn) error {
	if j.watched != nil {
		return nil
	}
	j.ways = [2]way{{from: a, to: b}, {from: b, to: a}}
	var watches []watched
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
		w.sockets = !isPipes(a) && !isPipes(b)
		w.small = w.sockets
		for _, fd := range []int{w.reads, w.writes} {
			if !slices.ContainsFunc(watches, func(d watched) bool { return d.fd == fd }) {
				watches = append(watches, watched{fd: fd})
			}
		}
	}
	j.watched = watches
	return nil
}

func isPipes(c Conn) bool {
	_, is := c.(*Pipes)
	return is
}

// settle has the set tell what each direction waits for, something to read or room to write,
// and ends those that are over. What nobody waits for is not in the set, which would tell of
// its end again and again; nor is what endWay may close. But a is, to be told once when its
// peer has gone.
func (j *state) settle() error {
	for i := range j.watched {
		if err := j.watch(&j.watched[i]); err != nil {
			return err
		}
	}
	j.end()
	return nil
}

// end ends those that are over.
func (j *state) end() {
	for i := range j.ways {
		if w := &j.ways[i]; w.over && !w.ended {
			w.ended, w.err = true, endWay(w.to, w.from, w.err)
		}
	}
}

func (j *state) watch(d *watched) error {
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

// smallMessage is more than what is copied at once, in bytes.
const smallMessage = 4 << 10

// atOnce is how many pipes one direction moves before the other has its turn.
const atOnce = 4

// move moves what can be moved now.
func (w *way) move() {
	if w.small && !w.over && w.loaded == 0 && !w.copy() {
		return
	}
	for range atOnce {
		if w.over {
			return
		}
		if w.loaded == 0 && !w.load() {
			return
		}
		size := w.loaded
		w.small = w.sockets && size < smallMessage
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
		if size >= w.pipe.size {
			w.pipe.grow()
		}
		w.pipe.free()
		w.pipe = nil
		if size < smallMessage { // if there is more, the set says so; behind more than that there mostly is
			return
		}
	}
}

// copy moves a small message through memory, which is less work for the kernel than to have
// it in a pipe, and reports whether it was not small: there may be more.
func (w *way) copy() bool {
	var b [smallMessage]byte
	n, err := receive(w.reads, b[:])
	switch {
	case err == unix.EAGAIN:
		return false
	case err != nil || n == 0:
		w.end(err) // nil is the end
		return false
	}
	sent, err := send(w.writes, b[:n])
	if err != nil && err != unix.EAGAIN {
		w.end(err)
		return false
	}
	if sent < n {
		w.keep(b[sent:n])
		return false
	}
	w.small = n < len(b)
	return !w.small
}

// keep puts what could not be written into the pipe, which is empty and has room for it.
func (w *way) keep(b []byte) {
	p, err := newPipe()
	if err == nil {
		if err = p.fill(b); err == nil {
			w.pipe, w.loaded = p, len(b)
			return
		}
		p.close()
	}
	w.end(err)
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
