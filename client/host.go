package client

import (
	"errors"
	"io"
	"time"

	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/remote"
	"github.com/seed-7265657e/usher/internal/sock"
)

// HostError says which side of the way to a broker on another host failed, ssh or usher
// there. Dial wraps it in ErrBrokerUnreachable; a Conn returns it in place of an end of
// stream that is none of the backend's.
type HostError = remote.Error

// closePatience is what a connection's ssh may take, after Close, to deliver what was
// written.
const closePatience = 2 * time.Second

// findHost looks whether the broker is on another host.
func (d *dialing) findHost() (err error) {
	if !remote.IsURL(d.Broker) {
		return nil
	}
	if d.OwnBuild != nil || d.Start != nil {
		return errors.New("a broker on another host neither starts the calling executable nor can be started from here: OwnBuild and Start are for this host")
	}
	d.host, err = remote.Parse(d.Broker)
	return err
}

// connectHost starts an ssh to path on the other host, the broker's or a backend's.
func (x *exchange) connectHost(path string) error {
	if path == x.Broker {
		path = ""
	}
	c, ssh, err := x.host.Dial(path)
	if err != nil {
		return err
	}
	x.connected(c)
	return x.s.useVia(c, ssh)
}

// hostFailure is why ssh failed, where err is the end of the stream that it had; nil where
// it only passed on the other side's end.
func (s *stream) hostFailure(err error) error {
	if s.host == nil || !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) &&
		!errors.Is(err, errno.ECONNRESET) && !errors.Is(err, errno.EPIPE) {
		return nil
	}
	s.mu.Lock()
	ssh := s.ssh
	if s.readClosed { // so that the end is the caller's own
		ssh = nil
	}
	s.mu.Unlock()
	if ssh == nil {
		return nil
	}
	return ssh.Err()
}

// useVia is use of a connection that ssh carries.
func (s *stream) useVia(c *sock.Conn, ssh *remote.Process) error {
	if err := s.use(c); err != nil {
		ssh.End(0)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sock != c { // closed meanwhile
		ssh.End(0)
		return nil
	}
	s.ssh = ssh
	return nil
}
