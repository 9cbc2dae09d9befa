// Package failpoint names the places in a connection's life where a test, or
// the demo, freezes or kills its own process: between two steps, exactly there.
//
// Nothing outside this module can import it, no environment variable or flag
// reaches it, and a point without a hook costs one atomic load.
package failpoint

import "sync/atomic"

// Point is a place between two steps of a connection's life
// (docs/life-of-a-connection.md).
type Point string

// BrokerLaunched: a process that the broker starts runs, and the loop does not know.
const BrokerLaunched Point = "broker.launched"

// The points of an upgrade in place, of the broker that goes and of its successor.
const (
	BrokerOffered Point = "broker.offered" // the successor may begin, and has not said that it does
	BrokerTold    Point = "broker.told"    // the successor knows, and has nothing
	BrokerClaimed Point = "broker.claimed" // the successor has the place, and has not said so
	BrokerTaken   Point = "broker.taken"   // the successor has said that it begins, and does not yet
)

// The points, in the order in which one handoff passes them.
const (
	BrokerIssued  Point = "broker.issued"  // token and claim exist, nothing sent
	BrokerSent    Point = "broker.sent"    // the message is in the kernel
	BrokerRevoked Point = "broker.revoked" // the claim is won back, nothing said to the client
	BrokerAcked   Point = "broker.acked"   // the ACK is in, the broker's copy still open

	BackendReceived Point = "backend.received" // descriptors are in, nothing judged
	BackendChecked  Point = "backend.checked"  // message and descriptors are good, claim not taken
	BackendClaimed  Point = "backend.claimed"  // claim taken, nothing read
	BackendRead     Point = "backend.read"     // some early bytes read, no ACK; passed with early data alone
	BackendAcked    Point = "backend.acked"    // ACK given, nothing written
	BackendReplied  Point = "backend.replied"  // the listener has written the first bytes: the reply, or with it an inline answer
)

var hook atomic.Pointer[func(Point)]

// Set installs f, which Hit calls with every point that is passed; nil removes
// it. f may never return.
func Set(f func(Point)) {
	if f == nil {
		hook.Store(nil)
		return
	}
	hook.Store(&f)
}

// Hit says that the caller is at p.
func Hit(p Point) {
	if f := hook.Load(); f != nil {
		(*f)(p)
	}
}
