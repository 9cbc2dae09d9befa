package client

import (
	"context"
	"net"
)

// HTTP returns a DialContext for http.Transport: whatever host a URL names, the
// connection goes to the service.
//
//	&http.Transport{DialContext: client.HTTP(client.Options{Service: "notes", Version: "1.2.0"})}
func HTTP(opts Options) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, opts) }
}

// GRPC returns a dialer for grpc.WithContextDialer; use it with a
// "passthrough:///" target.
func GRPC(opts Options) func(ctx context.Context, target string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx, opts) }
}

// dial returns Dial's connection as an interface that is nil on an error. Clients of
// these protocols speak first.
func dial(ctx context.Context, opts Options) (net.Conn, error) {
	c, err := open(ctx, opts, true)
	if err != nil {
		return nil, err
	}
	return c, nil
}
