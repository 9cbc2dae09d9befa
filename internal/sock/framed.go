package sock

import (
	"io"

	"github.com/seed-7265657e/usher/internal/frame"
)

// ReceiveFramed reads one framed message, of at most MaxMessage bytes, from a stream,
// with the descriptors that came with its first byte; anywhere else they break the
// framing. It borrows sock, whose read deadline bounds it, and leaves what follows the
// message in the kernel. The errors are those of Channel.Recv, and io.ErrUnexpectedEOF
// inside a message; with any of them no descriptor stays open.
func ReceiveFramed(sock *Conn) (Message, error) {
	var msg Message
	in := new(receiver)
	header := make([]byte, frame.HeaderLen)
	if err := fill(sock, in, header, true, &msg); err != nil {
		return Message{}, err
	}
	size, _, err := frame.Header(header, MaxMessage-frame.HeaderLen)
	if err != nil {
		return Message{}, broken(&msg, "not a frame: "+err.Error())
	}
	msg.Body = make([]byte, size)
	if err := fill(sock, in, msg.Body, false, &msg); err != nil {
		return Message{}, err
	}
	return msg, nil
}

// fill reads exactly len(part) bytes. Descriptors are legal with the message's
// first byte only, which is part's when head is true. On an error it closes what
// the message has gathered.
func fill(sock *Conn, in *receiver, part []byte, head bool, msg *Message) error {
	for done := 0; done < len(part); {
		atFirstByte := head && done == 0
		m, err := receive(sock, in, part[done:])
		switch {
		case err != nil:
			msg.FDs.Close()
			return err
		case m.N == 0:
			m.FDs.Close()
			msg.FDs.Close()
			if atFirstByte {
				return io.EOF
			}
			return io.ErrUnexpectedEOF
		case m.FDs.Len() > 0 && !atFirstByte:
			m.FDs.Close()
			return broken(msg, "descriptors inside a message")
		}
		if atFirstByte {
			msg.FDs = m.FDs.Move() // the next read uses the same buffer
		}
		if m.Fault != nil {
			msg.Fault = m.Fault
		}
		done += m.N
	}
	return nil
}
