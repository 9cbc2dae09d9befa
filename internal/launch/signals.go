//go:build !plan9

package launch

import "syscall"

// Signals by their numbers, for which not every system has names: SIGHUP and SIGPIPE.
const (
	Hangup     = syscall.Signal(1)
	BrokenPipe = syscall.Signal(13)
)
