package launch

import (
	"io"
	"slices"
	"strings"
	"syscall"
)

// These tell a program where the connection is that it has inherited: which of its
// descriptors, or which handle on Windows, where descriptors are another thing.
const (
	descriptorVariable = "USHER_FD"
	handleVariable     = "USHER_HANDLE"
)

// withoutInherited is env without what this process was told of a connection of its own.
func withoutInherited(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		return strings.HasPrefix(v, descriptorVariable+"=") || strings.HasPrefix(v, handleVariable+"=")
	})
}

// Place is where a program finds the connection that it is run with.
type Place int

const (
	Inherited Place = iota // its descriptor 3; a handle on Windows
	Stdio                  // standard input and output
)

// Connection is what Become gives a program.
type Connection interface {
	io.ReadWriteCloser
	syscall.Conn
}

// Become replaces this process by the program at path, which gets conn, in blocking mode,
// and where it is Inherited learns of its number by a variable of its environment. The
// process stays the same one: its id, its parent, its group, what the kernel says about it
// at the other end of conn. Become returns only after an error; conn is then the caller's
// as before.
//
// On Windows, where no process becomes another program, it runs the program, leaves the
// keys of the console to it, and closes conn; it returns the program's exit code, or an
// error where that has not run. The program ends with this process. It inherits the handle
// as it is: opened for overlapped calls, and bound to no completion port if conn is not. As
// that is nothing for standard input and output, these are pipes, to which conn's bytes are
// copied, and from which; the program's end is told to conn, that of its output is not.
func Become(path string, args, env []string, conn Connection, as Place) (code int, err error) {
	return execute(path, args, withoutInherited(env), conn, as)
}
