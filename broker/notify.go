package broker

import (
	"bytes"
	"context"
	"crypto/rand"
	"net"
	"os"
	"path/filepath"
)

// notifySocket is where a program says that it is ready (sd_notify(3)), which may be later
// than that it listens; nil for one that says nothing.
type notifySocket struct{ conn *net.UnixConn }

// listenNotify tells p where to say that it is ready. The socket is closed, and its name
// removed, when ctx ends, which is the start's.
func (s *server) listenNotify(ctx context.Context, p *program) (*notifySocket, error) {
	path := filepath.Join(filepath.Dir(s.binding.Path), "ready-"+rand.Text())
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	s.jobs.wg.Go(func() {
		<-ctx.Done()
		_ = conn.Close()
		_ = os.Remove(path)
	})
	p.env = append(p.env, "NOTIFY_SOCKET="+path)
	return &notifySocket{conn}, nil
}

// ready waits until the program says that it is ready; it is false when the socket has been
// closed before.
func (n *notifySocket) ready() bool {
	if n == nil {
		return true
	}
	message := make([]byte, 4<<10)
	for {
		size, err := n.conn.Read(message)
		if err != nil {
			return false
		}
		for line := range bytes.Lines(message[:size]) {
			if string(bytes.TrimSpace(line)) == "READY=1" {
				return true
			}
		}
	}
}
