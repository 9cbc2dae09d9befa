// Package handoff has the rules by which a live connection is given to another process,
// exactly once. It has no I/O of its own, and stands alone.
//
// It holds what a broker needs between "this backend shall have it" and "it is
// theirs", in the shape of the reference:
//
//	request                          Attempt, the one record of a handoff in flight, and Offer
//	token store, ACK registry        Table: both at once
//	decision before an attempt       Policy
//	transport                        the caller's, which reports a *SendError, and what was answered
//	ACK wait                         the caller's event loop
//	stages, outcome                  Attempt's methods, each of which ends it with an Outcome
//
// It knows nothing of Hello, of services' definitions or of sockets' names.
//
// A connection is decided by its claim, not by its acknowledgement: whoever
// takes the claim owns the connection, and only its owner reads or writes it.
// An Outcome is therefore one of three: adopted, not taken, unknown. Unknown
// arises where the other side knows no claim (the v1 exchange), and where the
// claim can't be read.
//
// The caller owns the connection throughout and closes its own descriptor after
// the outcome; what sends borrows it. An Attempt owns its claim, until Close.
package handoff
