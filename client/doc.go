// Package client is the SDK for programs that want a service: Dial returns a
// net.Conn to the right backend at the right version, handed over by the broker
// in the kernel or, where that can't be, reconnected to the backend's own pipe.
//
//	conn, err := client.Dial(ctx, client.Options{Service: "notes", Version: "1.2.0"})
//
// Errors say what may be done next: a *RefusedError carries code, reason and
// when to retry; ErrBrokerUnreachable means that no broker runs; ErrNoAnswer
// that nobody answered in time. Whatever Dial returns, no request was sent.
//
// DialWith sends one. Its errors are the same, and then the request was not run;
// or ErrOutcomeUnknown, which a Conn returns too: the request may have been run, so
// that it must not be sent again unless it is idempotent.
//
// Dial and DialWith ask the broker before they return. A Dialer, which learns what its
// broker is, leaves that to the first Write of its connections, whose bytes go along
// with the question. What one Dialer has learned changes nothing for another.
//
// Of usher it imports leaf packages and the pure package hello alone. A Conn is
// the caller's, who closes it; a failed Dial leaves nothing open.
package client
