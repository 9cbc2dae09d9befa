package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/wire"
)

// NoBrokerError reports that no broker answers at Socket.
type NoBrokerError struct {
	Socket string
	Err    error
}

func (e *NoBrokerError) Error() string {
	return fmt.Sprintf("no broker answers at %s (%v): start one with \"usher serve\", or name its socket with --socket", e.Socket, e.Err)
}

// Unwrap returns the cause.
func (e *NoBrokerError) Unwrap() error { return e.Err }

const (
	adminTimeout = 30 * time.Second // spec 01 §13
	adminRequest = 1                // the id of the only request on a connection
)

// ask sends one admin request to the live broker and returns its reply. Errors:
// *NoBrokerError, *hello.RefusedError when the broker is overloaded, those of
// package frame.
func (a *app) ask(ctx context.Context, req *wire.AdminRequest) (*wire.AdminReply, error) {
	socket, err := a.socketPath()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, endpoint.Milliseconds(endpoint.ClientTimeoutVariable, adminTimeout))
	defer cancel()
	conn, err := dialBroker(ctx, socket)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	release := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer release()

	// A broker that refuses without reading may have closed its end already: its
	// answer is there all the same.
	_, writeErr := frame.Write(conn, frame.Request(frame.Admin, adminRequest, wire.Marshal(req)))
	f, _, err := frame.Read(conn, frame.MaxBody)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("the broker at %s did not answer: %w", socket, ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("the broker at %s did not answer: %w", socket, errors.Join(err, writeErr))
	}
	return parseReply(f)
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
	if f.RequestId != adminRequest {
		return nil, &frame.MismatchError{Text: "request_id is not that of the admin request"}
	}
	reply := new(wire.AdminReply)
	return reply, frame.Unmarshal(f.Payload, reply)
}

// dialBroker connects to socket.
func dialBroker(ctx context.Context, socket string) (net.Conn, error) {
	conn, err := endpoint.Dial(ctx, socket)
	var forbidden *endpoint.VariableError
	switch {
	case err == nil:
		return conn, nil
	case errors.As(err, &forbidden): // a broker may be there: this user is not let in
		return nil, err
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, ctx.Err()
	}
	return nil, &NoBrokerError{Socket: socket, Err: plain(err)}
}

// plain leaves the system's word alone: the path is in the text already.
func plain(err error) error {
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		return sys.Err
	}
	return err
}

// relay asks the broker, prints its answer as it is and ends with the exit code
// that it names.
func (a *app) relay(cmd *cobra.Command, req *wire.AdminRequest) error {
	reply, err := a.ask(cmd.Context(), req)
	if err != nil {
		return err
	}
	body := reply.Body
	if !strings.HasSuffix(body, "\n") {
		body += "\n"
	}
	if _, err := io.WriteString(cmd.OutOrStdout(), body); err != nil {
		return err
	}
	return exitWith(int(min(reply.ExitCode, maxExitCode)))
}

// maxExitCode is the largest code that a shell tells from others.
const maxExitCode = 255
