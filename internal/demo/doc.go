// Package demo is `usher demo`: it starts a broker, backends and clients as
// processes of their own in a private directory, freezes and kills some of them
// where it hurts, replaces others, and counts what became of every request.
//
//	demo.go       Run: the stage, the scenarios in their order, the figures
//	stage.go      broker and two standing backends
//	event.go      what its processes say
//	tool.go       a tool in one binary: called at once from nothing, and replaced
//	routes.go     handed over, reconnected, kept alive
//	faults.go     frozen and killed backends
//	restart.go    a killed broker
//	upgrade.go    a broker that is replaced under load
//	leaks.go      descriptors and goroutines
//	timeline.go   one handoff, step by step
//	text.go       all of it for people
//	backend.go, client.go
//	              what the child processes run
//
// Every figure is counted by the process it is about, which says it in a line of
// its own or as the broker's status; descriptors alone are counted from outside.
// Nothing waits for the text of a log.
//
// It imports package usher, the SDKs, the example service and internal/failpoint; only
// internal/cli imports it. Its processes and its directory belong to package world.
package demo
