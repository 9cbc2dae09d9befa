package backend

import (
	"sync"
	"time"
)

// queue holds the connections that wait for Accept, the oldest first.
//
// It never refuses one: who brings a connection owns it, and has to give it to somebody.
// What bounds it is asked for before: a handed-over connection is claimed only with a
// place, and the pipe is not accepted from while dialledBacklog wait.
type queue struct {
	mu     sync.Mutex
	more   sync.Cond
	conns  []*Conn // the first head of them are gone
	head   int
	ended  bool // nothing more is put
	expiry *time.Timer

	places  int  // handed over, claimed or here
	size    int  // how many places there are
	dialled int  // here
	paused  bool // the pipe is not watched until one of these has been accepted
}

func (q *queue) init(size int) {
	q.size = size
	q.more.L = &q.mu
}

// reserve takes a place, without waiting. put takes it over, or release gives it back.
func (q *queue) reserve() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.places >= q.size {
		return false
	}
	q.places++
	return true
}

func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.places--
}

// put gives c, and its place if it has one, to Accept.
func (q *queue) put(c *Conn) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case !c.handedOver:
		q.dialled++
	case !c.placed: // what has waited elsewhere takes its place from those who come later
		q.places++
	}
	c.placed = false
	q.conns = append(q.conns, c)
	q.more.Signal()
}

// pause reports whether the pipe must wait for Accept; take says when that is over.
func (q *queue) pause() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.paused = q.dialled >= dialledBacklog
	return q.paused
}

// take waits for a connection; nil after end, when there is none left. resume says that
// the pipe may be watched again.
func (q *queue) take() (c *Conn, resume bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.head == len(q.conns) {
		if q.ended {
			return nil, false
		}
		q.more.Wait()
	}
	c = q.conns[q.head]
	q.conns[q.head] = nil
	if q.head++; q.head == len(q.conns) {
		q.conns, q.head = q.conns[:0], 0
		if q.expiry != nil {
			q.expiry.Stop()
		}
	}
	if c.handedOver {
		q.places--
		return c, false
	}
	q.dialled--
	resume, q.paused = q.paused, false
	return c, resume
}

// end says that nothing more is put: who waits in take returns. What is still here when
// grace has passed goes to abandon.
func (q *queue) end(grace time.Duration, abandon func([]*Conn)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.more.Broadcast()
	if q.head == len(q.conns) {
		return
	}
	q.expiry = time.AfterFunc(grace, func() {
		q.mu.Lock()
		rest := q.conns[q.head:]
		q.conns, q.head = nil, 0
		q.mu.Unlock()
		if len(rest) > 0 {
			abandon(rest)
		}
	})
}
