// Package admin answers the admin verbs: it turns a Snapshot of the broker into
// the reply of spec 04. It decides nothing; what SHUTDOWN does is up to the
// broker that gets the verb back from Handle.
//
// It is a domain package: it imports frame, wire and, for a type, usage, and
// the broker and the command line import it. It is pure.
//
// Descriptors: none.
package admin
