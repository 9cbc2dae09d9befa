package broker

import (
	"context"
	"sync"
	"time"

	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/loop"
)

// jobs are the goroutines beside the loop, and the way back to it. What is shared
// between goroutines is here: the wait groups, and two channels for what comes back when
// the loop has ended.
type jobs struct {
	loop *loop.Loop

	wg      sync.WaitGroup // every goroutine that ends in a bounded time
	readers sync.WaitGroup // those that read files: a file system may never answer

	serving context.Context // ends when draining begins; set by Serve
	work    context.Context // ends when Serve does, before the channels are closed; set by Serve

	late chan func()   // what comes back behind the loop's end, for Serve's goroutine
	over chan struct{} // closed when nobody takes anything any more
}

func newJobs(l *loop.Loop) jobs {
	return jobs{loop: l, late: make(chan func()), over: make(chan struct{})}
}

// post has the owner of the state call f: the loop, or behind its end Serve's goroutine.
// It is false when both have ended. Not for the owner itself: it may wait for it.
func (j *jobs) post(f func()) bool {
	if j.loop.Post(f) {
		return true
	}
	done := make(chan struct{})
	select {
	case j.late <- func() { defer close(done); f() }:
		<-done // f may begin a job, which counts while this one does
		return true
	case <-j.over:
		return false
	}
}

// asked has the owner of the state call f, and waits for it. It is false, and f is not
// called, when nobody takes anything any more. Not for the owner itself.
func (j *jobs) asked(f func()) bool {
	done := make(chan struct{})
	if !j.post(func() { defer close(done); f() }) {
		return false
	}
	<-done
	return true
}

// asOwner calls f on the loop and waits for it; it is false when the loop has ended, and
// f was called here. Serve's goroutine alone may call it: it owns the state then.
func (j *jobs) asOwner(f func()) bool {
	done := make(chan struct{})
	looping := j.loop.Post(func() { defer close(done); f() })
	if looping {
		<-done
	} else {
		f()
	}
	return looping
}

// await waits until done is closed, or ctx ends, and does what comes back behind the loop's end.
// It is Serve's goroutine's.
func (j *jobs) await(ctx context.Context, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-ctx.Done():
			return
		case f := <-j.late:
			f()
		}
	}
}

// finish waits for every goroutine but the readers, and does what they bring back. The
// loop has been told to stop. After finish nothing comes back any more.
func (j *jobs) finish(endReaders func()) {
	ended := make(chan struct{})
	go func() { j.wg.Wait(); close(ended) }()
	j.await(context.Background(), ended)
	endReaders()
	close(j.over)
}

// ended reports whether nobody takes anything any more.
func (j *jobs) ended() bool {
	select {
	case <-j.over:
		return true
	default:
		return false
	}
}

// awaitReaders gives those who read files time to come back, and reports whether all
// did.
func (j *jobs) awaitReaders() bool {
	back := make(chan struct{})
	go func() { // until the last file system has answered
		j.readers.Wait()
		close(back)
	}()
	timer := time.NewTimer(readGrace)
	defer timer.Stop()
	select {
	case <-back:
		return true
	case <-timer.C:
		return false
	}
}

// readGrace is how long after its connection's deadline a job that reads files may take
// to come back.
const readGrace = time.Second

// job is what a connection waits for while it is offloaded.
type job struct {
	cancel     context.CancelFunc
	readsFiles bool // and may never come back
	talks      bool // to the client, within the connection's deadline
}

// offload takes a connection off the loop: work runs on a goroutine of its own, with
// values that nobody changes meanwhile, and the loop resumes the connection with the
// result. work may block within the connection's deadline; its context ends with abort.
// One that reads files may be kept by a file system for ever: then the connection is
// closed without it, and Serve does not wait.
//
// The connection stays known to the loop, with its deadline, so it is never lost: it is
// resumed, or closed meanwhile, and then drop, which may be nil, gets the result. Only
// the job that the connection waits for resumes it, and a second one can't begin before.
//
// False means that nothing was begun, because the broker ends; the caller then closes
// the connection.
func offload[T any](c *connection, readsFiles bool, work func(context.Context) T, resume, drop func(T)) bool {
	return begin(c, job{readsFiles: readsFiles}, work, resume, drop)
}

// converse is offload for work that reads from the connection, or writes to it: what that waits
// for ends with the connection's deadline, or with abort. No other work has one set: it makes
// the connection a part of the runtime's poller, which costs something everywhere, and on
// Windows keeps whoever gets the connection from doing so itself.
func converse[T any](c *connection, work func(context.Context) T, resume, drop func(T)) bool {
	return begin(c, job{talks: true}, work, resume, drop)
}

func begin[T any](c *connection, j job, work func(context.Context) T, resume, drop func(T)) bool {
	jobs := &c.server.jobs
	if c.job != nil || jobs.work.Err() != nil {
		return false
	}
	ctx, cancel := context.WithCancel(jobs.work)
	j.cancel = cancel
	c.job = &j
	if j.talks {
		_ = c.conn.SetDeadline(c.deadline)
	}
	c.server.loop.WakeAt(c.expires())
	if drop == nil {
		drop = func(T) {}
	}
	group := &jobs.wg
	if j.readsFiles {
		group = &jobs.readers
	}
	group.Go(func() {
		result := work(ctx)
		cancel()
		if !jobs.post(func() { resumed(c, func() { resume(result) }, func() { drop(result) }) }) {
			drop(result) // nobody is there any more; the connection was closed before
		}
	})
	return true
}

// resumed ends the wait for a job.
func resumed(c *connection, resume, drop func()) {
	c.job = nil
	if c.phase == phaseClosed {
		drop()
		return
	}
	resume()
	if c.job == nil && c.control == nil && (c.phase == phaseResolving || c.phase == phaseReplying) { // nothing would end it
		c.server.emit(event.Bug{ConnectionID: c.offer.id, Problem: "a connection was left without a next step"})
		c.close()
	}
}
