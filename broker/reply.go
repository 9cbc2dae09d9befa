package broker

import (
	"errors"
	"io"

	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// refuseAndClose is a verdict: this client gets no backend.
func (c *connection) refuseAndClose(request *wire.Frame, refusal *hello.Refusal) {
	c.refuse(request, refusal)
	c.close()
}

func (c *connection) refuse(request *wire.Frame, refusal *hello.Refusal) {
	c.answer(hello.ReplyFrame(request, refusal.Reply()))
	c.server.emit(event.Refused{Code: refusal.Code.String(), Reason: refusal.Reason, Service: c.service, PID: c.cred.PID})
}

// answer sends a verdict. It is due whatever has become of the connection's
// deadline, which a slow Hello, a slow backend or the end of draining uses up.
func (c *connection) answer(f *wire.Frame) {
	if !c.plain {
		c.noteWrite(writeNow(c.conn, f))
	}
}

// noteWrite notes how an answer was written. A client that has gone is counted, and is
// no error.
func (c *connection) noteWrite(err error) {
	switch {
	case err == nil:
	case errors.Is(err, errno.EPIPE), errors.Is(err, errno.ECONNRESET):
		c.server.emit(event.ClientGone{PID: c.cred.PID})
	default:
		c.server.emit(event.AnswerLost{PID: c.cred.PID, Problem: err.Error()})
	}
}

// writeNow is sendNow for a frame.
func writeNow(c *sock.Conn, f *wire.Frame, with ...sock.Lender) error {
	msg, err := frame.Append(nil, f)
	if err != nil {
		return err
	}
	_, err = sendNow(c, msg, with...)
	return err
}

// sendNow sends msg, with what is lent beside it, at once or not at all, whatever mode the
// connection is in. The few bytes fit an empty socket buffer; anything less is a failure.
func sendNow(c *sock.Conn, msg []byte, with ...sock.Lender) (n int, err error) {
	if n, err = c.SendNow(msg, with...); err == nil && n < len(msg) {
		err = io.ErrShortWrite
	}
	return n, err
}
