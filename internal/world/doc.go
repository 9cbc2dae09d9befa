// Package world starts brokers, backends and clients as real processes, for the
// demo, the benchmarks and the tests: each in a role of the calling program, or a
// program of somebody else's.
//
//	world.go     World: a private directory, a clean environment, one definition
//	process.go   Process: start, freeze, kill, end
//	lines.go     the conversation with it: a line of JSON each
//	role.go      the other side of that conversation, for the process itself
//	status.go    what a broker says about itself
//	starts.go    which brokers and daemons a one-binary tool has started
//	installed_linux.go
//	             Installed: a one-binary tool, whose processes start themselves
//	proc.go, usage_linux.go
//	             what the system says about a process
//
// A World owns every process that it starts, their pipes and its directory, and
// Close leaves none of them behind. Nothing here waits for the text of a log.
package world
