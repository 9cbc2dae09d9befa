// Package handoff gives a live connection to another process, exactly once.
//
// It holds what a broker needs between "this backend shall have it" and "it is
// theirs": tokens, acknowledgements, the claim, the fallback policy, the
// orchestrator with its stages, and two transports: usher's channel and the v1
// exchange. It knows nothing of Hello, services or sockets' names, so that other
// programs can embed it.
//
// A connection is decided by its claim, not by its acknowledgement: whoever
// takes the claim owns the connection, and only its owner reads or writes it.
// An Outcome is therefore one of three: adopted, not taken, unknown. Unknown
// arises where the other side knows no claim (the v1 exchange), and where the
// claim can't be read.
//
// The caller owns the connection throughout and closes its own descriptor after
// the outcome; transports borrow it. The orchestrator owns the claim of each
// attempt and closes it.
package handoff
