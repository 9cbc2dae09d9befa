package broker

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/wait"
)

// acceptLoop is step 1 of a connection's life, accept. It ends when the socket
// is closed, or when the broker drains and the kernel's queue is empty. No fault
// of one peer, nor a full descriptor table, ends it.
func (b *Broker) acceptLoop(ctx context.Context) {
	defer close(b.accepted)
	for rest, failing := false, false; ; {
		if rest { // a new span for each: the queue may be long
			_ = b.binding.Listener.SetDeadline(time.Now().Add(acceptGrace))
		}
		c, err := b.binding.Listener.AcceptUnix()
		switch {
		case err == nil:
			failing = false
			b.admit(ctx, c, b.pressure.accepted())
		case errors.Is(err, os.ErrDeadlineExceeded) && !rest:
			rest = true
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return
		case rest:
			return // a full table says so even of an empty queue
		default:
			if b.pressure.failed(err) {
				b.counters.acceptFailures.Add(1)
			}
			if !failing { // one line, however long it lasts
				b.log.Warn("accept fails; trying again until it succeeds", "error", err, "every", acceptBackoff)
			}
			failing = true
			wait.For(ctx, acceptBackoff)
		}
	}
}

const (
	// acceptBackoff keeps a full descriptor table from costing CPU (spec 03 §13).
	acceptBackoff = 50 * time.Millisecond
	// acceptGrace is how long draining waits for one more connection in the
	// kernel's queue, which no new client can reach any more.
	acceptGrace = 20 * time.Millisecond
)

// acceptRest makes the accept loop accept what is still in the kernel's queue, to
// be refused, and end.
func (b *Broker) acceptRest() {
	_ = b.binding.Listener.SetDeadline(time.Unix(1, 0))
	<-b.accepted
}

// admit checks who is there before the first byte is read (spec 03 §5), and
// starts the connection's straight line. It owns c. It never blocks.
func (b *Broker) admit(ctx context.Context, c *net.UnixConn, demoted bool) {
	cred, err := peer.OfConn(c)
	if err == nil {
		err = cred.CheckUser(os.Geteuid())
	}
	if err != nil {
		b.counters.foreignPeers.Add(1)
		b.log.Warn("peer dropped", "error", err)
		_ = c.Close()
		return
	}
	if !b.admission.enter(cred.PID, b.conns.evict) {
		b.refuseUnread(c)
		return
	}
	conn := newConnection(ctx, b, c, cred, demoted)
	b.conns.add(conn)
	b.wg.Go(conn.serve)
}

// refuseUnread answers a connection over the bounds without reading from it.
func (b *Broker) refuseUnread(c *net.UnixConn) {
	refusal := overloaded()
	b.counters.refuse(refusal.Code)
	_ = writeNow(c, hello.ReplyFrame(nil, refusal.Reply()))
	_ = c.Close()
}

// overloaded is the refusal for want of room, which others are about to make.
func overloaded() *hello.Refusal {
	return &hello.Refusal{
		Code:       brokerpb.ErrorCode_ERROR_RATE_LIMITED,
		Reason:     "too many connections without a verdict",
		RetryAfter: overloadRetry,
	}
}

const overloadRetry = 200 * time.Millisecond
