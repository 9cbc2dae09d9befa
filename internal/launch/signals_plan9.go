package launch

import "syscall"

// Notes of this system: one that ends whoever has gone away, and one that nobody sends.
const (
	Hangup     = syscall.Note("hangup")
	BrokenPipe = syscall.Note("sys: write on closed pipe")
)
