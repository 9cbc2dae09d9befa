// Package eventlog keeps the events of a broker's life in a file: every start and end of
// an instance, every refusal and every fallback, with its reason.
//
// The file is a sequence of records: the length of a LifecycleEvent (spec 01 §5.4) as a
// varint, and the message. v1 defines no file (spec 03 §24); docs/protocol.md, section
// "The file of events", has this one. It is bounded as every log is (package logfile).
//
// Writer takes in facts (package event) on the broker's goroutine, and never blocks it.
// Read and Follow are for whoever looks, with or without a broker.
//
// A leaf: it imports endpoint, event, logfile, watch, window and wire. A Writer, and a call of Read or
// Follow, owns the files that it opens.
package eventlog
