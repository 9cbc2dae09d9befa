// Package hello is the Hello exchange without its I/O: judge a Hello in the
// order of the specification, refuse it with the exact texts, build the grant,
// limit the rate, and the client's side of the same. It imports the leaves
// frame, names and wire; broker and client import it. No descriptor passes
// through it.
package hello

import (
	"fmt"
	"math"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// protocolVersion is the only version this package negotiates.
const protocolVersion = 1

// Refusal is why a Hello gets no backend. The broker sends it with Reply; ParseReply
// makes one of what a broker has sent.
type Refusal struct {
	Code       wire.ErrorCode
	Reason     string        // exact text of spec 01 §7.1
	RetryAfter time.Duration // 0: retrying does not help until something changes
}

func (r *Refusal) Error() string {
	if r.RetryAfter > 0 {
		return fmt.Sprintf("refused: %s (%s); retry after %s", r.Reason, r.Code, r.RetryAfter)
	}
	return fmt.Sprintf("refused: %s (%s)", r.Reason, r.Code)
}

// Reply is the refusal as a message. The retry time is rounded up to whole
// milliseconds, so a wait shorter than one is not sent as none.
func (r *Refusal) Reply() *wire.HelloReply {
	return &wire.HelloReply{Refused: &wire.Refused{
		Reason:            r.Reason,
		DaemonMinProtocol: protocolVersion,
		DaemonMaxProtocol: protocolVersion,
		Code:              r.Code,
		RetryAfterMs:      toMillis(r.RetryAfter),
	}}
}

// ReplyFrame puts a reply in its frame. req is the frame that carried the
// Hello; nil when none could be read, which gives id 0 and no trace. The
// protocol is always control, even when the request named another.
func ReplyFrame(req *wire.Frame, reply *wire.HelloReply) *wire.Frame {
	if req == nil {
		req = &wire.Frame{}
	}
	f := frame.Response(req, wire.Marshal(reply))
	f.PayloadProtocol = frame.Control
	return f
}

func toMillis(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	return uint64((d-1)/time.Millisecond) + 1
}

func fromMillis(ms uint64) time.Duration {
	if ms > uint64(math.MaxInt64/time.Millisecond) {
		return math.MaxInt64
	}
	return time.Duration(ms) * time.Millisecond
}
