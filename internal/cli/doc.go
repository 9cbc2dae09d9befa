// Package cli is the usher command: one file per verb, joined in root.go.
//
// It may import the SDKs, broker and the domain packages; only cmd/usher and
// tests import it. It keeps no state outside of a run: verbs get their streams
// from their cobra command and what is common to them from app.
//
// Descriptors: the standard streams are borrowed; a connection is closed by the
// verb that opened it.
//
// Spec: document "03 broker", section 18, for flags, environment and exit codes.
package cli
