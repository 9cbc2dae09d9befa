package backend

import (
	"errors"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/sock"
)

// This file is the Listener's event loop but for adoption (adopt.go): connections
// dialled to the pipe, first requests answered inline, connections that wait for
// bytes before Accept, and pending replies. All of it runs on the loop's goroutine.

// replyDelay is how long the reply to a client with early data waits for the first
// Write, to go along with it.
const replyDelay = 2 * time.Millisecond

// readWait is what follows when a connection in the loop's set becomes readable.
type readWait struct {
	deadline time.Time // zero for none
	then     func(*Conn)
}

// pendingReply is a reply that has not gone out.
type pendingReply struct {
	conn     *Conn
	deadline time.Time // when it goes out by itself
}

// admit takes in a connection that was accepted from the pipe.
func (l *Listener) admit(c *sock.Conn) {
	if endpoint.IsProbe(c) { // the broker, which asks whose pipe this is
		_ = c.Close()
		return
	}
	if err := ownUser(c); err != nil {
		l.opts.Logger.Debug("dialled connection closed", "error", err)
		_ = c.Close()
		return
	}
	conn := l.newConn(c, false)
	if l.opts.Inline != nil {
		l.firstBytes(conn)
		return
	}
	l.enqueue(conn, nil)
}

// firstBytes offers Inline the first bytes of a connection without early data.
func (l *Listener) firstBytes(conn *Conn) {
	n, err := conn.sock.TryRead(l.scratch)
	switch {
	case err == nil:
		l.first(conn, l.scratch[:n])
	case !errors.Is(err, errno.EAGAIN):
		l.drop(conn)
	case !l.await(conn, time.Time{}, l.firstBytes):
		l.enqueue(conn, nil)
	}
}

// drop closes a connection that ended before Accept returned it.
func (l *Listener) drop(conn *Conn) {
	conn.acknowledge()
	conn.sock.Prefix(nil)
	l.release(conn)
	_ = conn.Close()
}

// release gives back the place in the accept queue, if conn holds one.
func (l *Listener) release(conn *Conn) {
	if conn.placed {
		conn.placed = false
		l.queue.release()
	}
}

// first has the first bytes of a connection answered inline, or hands it to
// Accept.
func (l *Listener) first(conn *Conn, request []byte) {
	if l.opts.Inline == nil || !conn.handedOver && mayBeProbe(request) {
		l.enqueue(conn, request)
		return
	}
	answer, ok := l.opts.Inline(l.answer[:0], request)
	if !ok {
		l.enqueue(conn, request)
		return
	}
	if cap(answer) <= maxKept {
		l.answer = answer
	}
	n, err := conn.sock.TryWrite(answer) // behind the reply, where that is pending
	failpoint.Hit(failpoint.BackendReplied)
	switch {
	case err != nil && !errors.Is(err, errno.EAGAIN):
		l.drop(conn)
	case n < len(answer):
		l.release(conn)
		l.finishAnswer(conn, append([]byte(nil), answer[n:]...))
	default:
		l.idle(conn)
	}
}

// idle waits for a connection that was answered inline to say more. When the Listener
// closes it ends, as one that is idle does when any server closes, unless it has said
// more already.
func (l *Listener) idle(conn *Conn) {
	if l.await(conn, time.Time{}, l.more) {
		return
	}
	if l.closing {
		if n, err := conn.sock.TryRead(l.scratch); err != nil {
			l.drop(conn)
		} else {
			l.enqueue(conn, l.scratch[:n])
		}
		return
	}
	l.enqueue(conn, nil)
}

// maxKept is the largest answer buffer that is kept for the next one.
const maxKept = 1 << 20

// finishAnswer writes the rest of an inline answer on a goroutine of its own, and
// hands the connection to Accept.
func (l *Listener) finishAnswer(conn *Conn, rest []byte) {
	l.wg.Go(func() {
		_ = conn.SetWriteDeadline(time.Now().Add(replyTimeout))
		_, err := conn.Write(rest)
		_ = conn.SetWriteDeadline(time.Time{})
		switch {
		case err != nil:
			_ = conn.Close()
		case !l.loop.Post(func() { l.enqueue(conn, nil) }): // the Listener closes, and waits for this
			l.queue.put(conn)
		}
	})
}

// more hands a connection that was answered inline to Accept when more bytes come,
// and closes it at its end.
func (l *Listener) more(conn *Conn) {
	n, err := conn.sock.TryRead(l.scratch)
	switch {
	case err == nil:
		l.enqueue(conn, l.scratch[:n])
	case errors.Is(err, errno.EAGAIN):
		l.idle(conn)
	default:
		l.drop(conn)
	}
}

// enqueue hands a connection to Accept, with bytes that have been read from it.
func (l *Listener) enqueue(conn *Conn, read []byte) {
	conn.hold(read)
	l.delayReply(conn)
	if !conn.handedOver {
		conn.sniff = &sniffer{conn: conn, answer: l.self.answer}
	}
	l.queue.put(conn)
}

// delayReply has the reply, if it has not gone out, written by the first Write, or after
// replyDelay.
func (l *Listener) delayReply(conn *Conn) {
	if !conn.sock.Prefixed() {
		return
	}
	deadline := time.Now().Add(replyDelay)
	l.replies = append(l.replies, pendingReply{conn, deadline})
	l.loop.WakeAt(deadline)
}

// await calls then once conn is readable, has ended, or the Listener closes. At the
// deadline conn is closed instead. It returns false when the loop can't watch conn, or the
// Listener is closing.
func (l *Listener) await(conn *Conn, deadline time.Time, then func(*Conn)) bool {
	if l.closing {
		return false
	}
	err := l.loop.Add(conn.sock, func() {
		l.endWait(conn)
		then(conn)
	})
	if err != nil {
		return false
	}
	l.waiting[conn] = readWait{deadline, then}
	l.release(conn) // what nobody accepts yet takes no place from what somebody might
	l.loop.WakeAt(deadline)
	return true
}

// endWait takes conn out of the loop's set, which must come before its descriptor
// is closed or given away: the broker may hold a copy.
func (l *Listener) endWait(conn *Conn) {
	l.loop.Remove(conn.sock)
	delete(l.waiting, conn)
}

// tick acts on the deadlines that have passed, and returns the next one.
func (l *Listener) tick(now time.Time) (next time.Time) {
	n := 0
	for ; n < len(l.replies) && !now.Before(l.replies[n].deadline); n++ {
		_ = l.replies[n].conn.sock.Flush()
	}
	l.replies = append(l.replies[:0], l.replies[n:]...)
	clear(l.replies[len(l.replies):cap(l.replies)])
	if len(l.replies) > 0 {
		next = l.replies[0].deadline
	}
	next = loop.Earlier(next, l.tickPipe(now))
	next = loop.Earlier(next, l.tickV1(now))
	next = loop.Earlier(next, l.tickIdle(now))
	next = loop.Earlier(next, l.tickActive(now))
	return loop.Earlier(next, l.expire(now))
}

// expire closes the waiting connections whose deadline has passed, and returns the
// next deadline.
func (l *Listener) expire(now time.Time) (next time.Time) {
	for conn, p := range l.waiting {
		switch {
		case p.deadline.IsZero():
		case now.Before(p.deadline):
			next = loop.Earlier(next, p.deadline)
		default:
			l.endWait(conn)
			l.drop(conn)
		}
	}
	return next
}
