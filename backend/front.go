package backend

import (
	"errors"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/unixconn"
)

// This file is the Listener's event loop but for adoption (adopt.go): connections
// dialled to the pipe, first requests answered inline, connections that wait for
// bytes without anybody having accepted them, and replies that are due. All of it
// runs on the loop's goroutine.

// replyDelay is how long the reply to a client with early data waits for the first
// Write, to go along with it.
const replyDelay = 2 * time.Millisecond

// parked is a connection in the loop's set that waits for bytes.
type parked struct {
	fd       int
	deadline time.Time // zero for none
	then     func(*Conn)
}

// due is a reply that must go at a time.
type due struct {
	conn *Conn
	at   time.Time
}

// yield takes in a connection that was accepted from the pipe.
func (l *Listener) yield(c *unixconn.Conn) {
	if endpoint.IsProbe(c) { // the broker, which asks whose pipe this is
		_ = c.Close()
		return
	}
	if err := ownUser(c); err != nil {
		l.opts.Logger.Debug("dialled connection closed", "error", err)
		_ = c.Close()
		return
	}
	conn := newConn(c, false)
	if l.opts.Inline != nil {
		l.firstBytes(conn)
		return
	}
	l.give(conn, nil)
}

// firstBytes offers Inline the first bytes of a connection without early data.
func (l *Listener) firstBytes(conn *Conn) {
	n, err := conn.sock.TryRead(l.scratch)
	switch {
	case err == nil:
		l.first(conn, l.scratch[:n])
	case !errors.Is(err, syscall.EAGAIN):
		l.drop(conn)
	case !l.park(conn, time.Time{}, l.firstBytes):
		l.give(conn, nil)
	}
}

// drop closes a connection that ended before anybody heard of it.
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
		l.give(conn, request)
		return
	}
	answer, ok := l.opts.Inline(l.answer[:0], request)
	if !ok {
		l.give(conn, request)
		return
	}
	if cap(answer) <= maxKept {
		l.answer = answer
	}
	n, err := conn.sock.TryWrite(answer) // behind the reply, where that is owed
	failpoint.Hit(failpoint.BackendReplied)
	switch {
	case err != nil && !errors.Is(err, syscall.EAGAIN):
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
	if l.park(conn, time.Time{}, l.more) {
		return
	}
	if l.closing {
		if n, err := conn.sock.TryRead(l.scratch); err != nil {
			l.drop(conn)
		} else {
			l.give(conn, l.scratch[:n])
		}
		return
	}
	l.give(conn, nil)
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
		case !l.loop.Post(func() { l.give(conn, nil) }): // the Listener closes, and waits for this
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
		l.give(conn, l.scratch[:n])
	case errors.Is(err, syscall.EAGAIN):
		l.idle(conn)
	default:
		l.drop(conn)
	}
}

// give hands a connection to Accept, with bytes that have been read from it.
func (l *Listener) give(conn *Conn, read []byte) {
	conn.hold(read)
	l.oweReply(conn)
	if !conn.handedOver {
		conn.sniff = &sniffer{conn: conn, answer: l.self.answer}
	}
	l.queue.put(conn)
}

// oweReply has the reply, if it is not out, written by the first Write, or soon.
func (l *Listener) oweReply(conn *Conn) {
	if !conn.sock.Prefixed() {
		return
	}
	at := time.Now().Add(replyDelay)
	l.dues = append(l.dues, due{conn, at})
	l.loop.WakeAt(at)
}

// park calls then, once, when conn has something to read or has ended, or the Listener
// closes; a deadline ends it. It is false when the loop can't watch, or the Listener is
// closing.
func (l *Listener) park(conn *Conn, deadline time.Time, then func(*Conn)) bool {
	if l.closing {
		return false
	}
	fd, ok := conn.sock.Borrow()
	if !ok {
		return false
	}
	defer conn.sock.Return()
	err := l.loop.Add(fd, func() {
		l.unpark(conn)
		then(conn)
	})
	if err != nil {
		return false
	}
	l.parked[conn] = parked{fd, deadline, then}
	l.release(conn) // what nobody accepts yet takes no place from what somebody might
	l.loop.WakeAt(deadline)
	return true
}

// unpark takes conn out of the loop's set, which must come before its descriptor
// is closed or given away: the broker may hold a copy.
func (l *Listener) unpark(conn *Conn) {
	l.loop.Remove(l.parked[conn].fd)
	delete(l.parked, conn)
}

// tick writes what is due and ends what is overdue.
func (l *Listener) tick(now time.Time) (next time.Time) {
	n := 0
	for ; n < len(l.dues) && !now.Before(l.dues[n].at); n++ {
		_ = l.dues[n].conn.sock.Flush()
	}
	l.dues = append(l.dues[:0], l.dues[n:]...)
	clear(l.dues[len(l.dues):cap(l.dues)])
	if len(l.dues) > 0 {
		next = l.dues[0].at
	}
	next = loop.Earlier(next, l.tickPipe(now))
	return loop.Earlier(next, l.expire(now))
}

// expire closes the parked connections whose deadline has passed, and returns the
// next deadline.
func (l *Listener) expire(now time.Time) (next time.Time) {
	for conn, p := range l.parked {
		switch {
		case p.deadline.IsZero():
		case now.Before(p.deadline):
			next = loop.Earlier(next, p.deadline)
		default:
			l.unpark(conn)
			l.drop(conn)
		}
	}
	return next
}
