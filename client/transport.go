package client

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// What an exchange does with its present connection. Each of these waits at most
// until the step's time or the driver's is over, and then returns without an error:
// run looks at what is over, and the step is taken again or not.

// connect dials path. Not connected, without an error: the backlog is full, and it
// is to be tried again.
func (x *exchange) connect(path string) (connected bool, err error) {
	if x.host != nil {
		return true, x.connectHost(path)
	}
	c, err := endpoint.DialNow(path)
	if errors.Is(err, errno.EAGAIN) {
		x.busy, x.pause = err, min(max(2*x.pause, firstPause), lastPause)
		x.s.sleep(earlier(time.Now().Add(x.pause), x.deadline), nil)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	x.connected(c)
	return true, x.s.use(c)
}

func (x *exchange) connected(c *sock.Conn) {
	if x.NoReadAhead {
		c.KeepUnbound()
	}
	x.busy, x.pause = nil, 0
	x.conn, x.sent, x.n, x.tried = c, 0, 0, false
}

func (x *exchange) disconnect() {
	x.s.drop()
	x.conn = nil
}

// push sends what is left of hello and early, and reports whether that is all.
// An error is one of the connection, never of time.
func (x *exchange) push() (done bool, err error) {
	var n int
	if !x.tried {
		x.tried = true
		n, err = x.conn.TryWrite(x.head, x.early)
	} else {
		x.s.arm(x.deadline)
		n, err = x.conn.Write(append(x.head[:len(x.head):len(x.head)], x.early...)[x.sent:])
	}
	if n > 0 {
		x.sent += n
		x.s.begin(len(x.early) > 0, false)
		x.s.outcome.send(x.reached() || x.lost != nil)
	}
	if errors.Is(err, errno.EAGAIN) || errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return x.sent == len(x.head)+len(x.early), err
}

// frame returns the next frame, or nil when there is none yet. What follows it stays
// in buf.
func (x *exchange) frame(by time.Time) (*wire.Frame, error) {
	f, used, err := frame.Decode(x.buf[:x.n], frame.MaxHelloBody)
	switch {
	case err == nil:
		x.n = copy(x.buf, x.buf[used:x.n])
		return f, nil
	case errors.Is(err, frame.ErrNeedMore):
		return nil, x.fill(by)
	}
	return nil, err
}

// fill waits for more until then, as long as the driver may.
func (x *exchange) fill(by time.Time) error {
	// Where a broker had to be started, so has a backend: the verdict does not come soon,
	// and the processor is theirs.
	if end, armed := x.s.within(by); armed || x.starts > 0 || !x.conn.AwaitRead(min(kernelWait, time.Until(end))) {
		x.s.arm(by)
	}
	n, err := x.conn.Read(x.room())
	x.n += n
	switch {
	case n > 0, errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	}
	return err
}

// arrived takes what has arrived already, though it is late, and reports whether
// there was something.
func (x *exchange) arrived() bool {
	if x.step != stepReply && x.step != stepReady {
		return false
	}
	if _, _, err := frame.Decode(x.buf[:x.n], frame.MaxHelloBody); !errors.Is(err, frame.ErrNeedMore) {
		return true
	}
	n, err := x.conn.TryRead(x.room())
	if err == nil {
		x.n += n
	}
	return err == nil && n > 0
}

func (x *exchange) room() []byte {
	if x.n == len(x.buf) {
		x.buf = append(x.buf, make([]byte, max(4<<10, len(x.buf)))...)
	}
	room := x.buf[x.n:]
	if x.NoReadAhead {
		room = room[:min(len(room), frame.Lacks(x.buf[:x.n], frame.MaxHelloBody))]
	}
	return room
}
