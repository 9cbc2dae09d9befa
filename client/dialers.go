package client

import (
	"context"
	"net"
	"sync/atomic"
)

// Dialer dials one service again and again, and learns from each answer whether its
// broker is usher. Its methods may be called at the same time; the Options are not to
// be changed meanwhile.
type Dialer struct {
	Options

	usher atomic.Bool // the last answer was usher's
}

// Dial is as the function Dial, until a broker has answered as usher. From then on it
// returns at once: the first Write sends Hello and takes its bytes along, if they are
// at most MaxEarlyData; a Read that comes first sends Hello alone. The errors of Dial
// then come from that Write or Read; after a refusal the next Dial asks again.
// Options.Eager turns this off.
func (d *Dialer) Dial(ctx context.Context) (*Conn, error) { return d.open(ctx, false) }

// open is Dial; writesFirst says that the connection's user writes before it
// reads, whatever order its goroutines run in.
func (d *Dialer) open(ctx context.Context, writesFirst bool) (*Conn, error) {
	s, err := prepare(ctx, d)
	if err != nil {
		return nil, err
	}
	s.writesFirst = writesFirst
	if s.skip() || !s.Eager && !s.NoHandoff && s.host == nil && d.usher.Load() {
		return newConn(s), nil
	}
	if err := s.dial(ctx, newExchange(s, nil)); err != nil {
		return nil, err
	}
	return newConn(s), nil
}

// HTTP returns a DialContext for http.Transport: whatever host a URL names, the
// connection goes to the service. It is a Dialer's: keep one for all requests, and
// from the second connection on the request goes along with Hello.
//
//	&http.Transport{DialContext: client.HTTP(client.Options{Service: "notes", Version: "1.2.0"})}
func HTTP(opts Options) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := &Dialer{Options: opts}
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return d.speakFirst(ctx) }
}

// GRPC returns a dialer for grpc.WithContextDialer; use it with a
// "passthrough:///" target. It is a Dialer's, as that of HTTP.
func GRPC(opts Options) func(ctx context.Context, target string) (net.Conn, error) {
	d := &Dialer{Options: opts}
	return func(ctx context.Context, _ string) (net.Conn, error) { return d.speakFirst(ctx) }
}

// speakFirst is for the clients of protocols whose clients speak first. It returns an
// interface that is nil on an error.
func (d *Dialer) speakFirst(ctx context.Context) (net.Conn, error) {
	c, err := d.open(ctx, true)
	if err != nil {
		return nil, err
	}
	return c, nil
}
