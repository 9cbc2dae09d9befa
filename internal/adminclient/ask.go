// Package adminclient asks a live broker one admin request. The command line,
// package usher, and the harness that starts brokers import it.
//
// Descriptors: a connection is made and closed inside one call.
package adminclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/remote"
	"github.com/seed-7265657e/usher/internal/wire"
)

// DialError reports that no broker was reached.
type DialError struct{ Err error }

func (e *DialError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *DialError) Unwrap() error { return e.Err }

const requestID = 1 // of the only request on a connection

// Ask sends one request to the broker at socket, or at an ssh:// URL, and returns its reply
// (spec 01 §12). ctx bounds it. Errors: *DialError; *remote.Error; *hello.Refusal when the
// broker is overloaded; those of package frame; ctx's.
func Ask(ctx context.Context, socket string, req *wire.AdminRequest) (*wire.AdminReply, error) {
	if remote.IsURL(socket) {
		return askHost(ctx, socket, req)
	}
	conn, err := endpoint.Dial(ctx, socket)
	if err != nil {
		return nil, &DialError{err}
	}
	defer func() { _ = conn.Close() }()
	f, err := exchange(ctx, conn, req)
	if err != nil {
		return nil, fmt.Errorf("the broker at %s did not answer: %w", socket, err)
	}
	return parseReply(f)
}

// askHost is Ask of a broker on another host.
func askHost(ctx context.Context, url string, req *wire.AdminRequest) (*wire.AdminReply, error) {
	host, err := remote.Parse(url)
	if err != nil {
		return nil, err
	}
	conn, ssh, err := host.Dial("")
	if err != nil {
		return nil, err
	}
	defer ssh.End(0)
	defer func() { _ = conn.Close() }()
	f, err := exchange(ctx, conn, req)
	switch {
	case err == nil:
		return parseReply(f)
	case ctx.Err() == nil:
		if why := ssh.Err(); why != nil {
			return nil, why
		}
	}
	return nil, fmt.Errorf("the broker at %s did not answer: %w", url, err)
}

func exchange(ctx context.Context, conn net.Conn, req *wire.AdminRequest) (*wire.Frame, error) {
	release := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer release()
	// A broker that refuses without reading may have closed its end already: its
	// answer is there all the same.
	_, writeErr := frame.Write(conn, frame.Request(frame.Admin, requestID, wire.Marshal(req)))
	f, _, err := frame.Read(conn, frame.MaxBody)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, errors.Join(err, writeErr)
	}
	return f, nil
}

// parseReply judges the answer to an admin request (spec 01 §9, §12).
func parseReply(f *wire.Frame) (*wire.AdminReply, error) {
	if f.PayloadProtocol == frame.Control {
		if _, err := hello.ParseReply(f); err != nil {
			return nil, err
		}
	}
	if err := frame.Check(f, wire.FrameKind_FRAME_KIND_RESPONSE, frame.Admin); err != nil {
		return nil, err
	}
	if f.RequestId != requestID {
		return nil, &frame.MismatchError{Text: "request_id is not that of the admin request"}
	}
	reply := new(wire.AdminReply)
	return reply, frame.Unmarshal(f.Payload, reply)
}
