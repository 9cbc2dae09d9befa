package launch

import "syscall"

// Place is which descriptors of a program a connection becomes.
type Place int

const (
	Third Place = iota // 3
	Stdio              // 0 and 1: standard input and output
)

func (p Place) numbers() []int {
	if p == Stdio {
		return []int{0, 1}
	}
	return []int{firstInherited}
}

// Become replaces this process by the program at path, which gets conn, in blocking mode.
// The process stays the same one: its id, its parent, its group, what the kernel says
// about it at the other end of conn. Become returns only after an error; conn is then the
// caller's as before.
func Become(path string, args, env []string, conn syscall.Conn, as Place) error {
	return execute(path, args, env, conn, as)
}
