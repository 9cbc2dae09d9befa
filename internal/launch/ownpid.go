package launch

import "os/exec"

// Nobody knows the id of a process before it is there, and a program that wants it in its
// environment (LISTEN_PID of sd_listen_fds(3)) gets it in one of two ways: it is held behind
// execve, and its environment written into; or, where it can't be held, a shell that knows
// its id becomes the program.

// noPID keeps the place of an id, as many digits as any has.
const noPID = "0000000"

// shell becomes the program $1, which finds the shell's id in the variable $0.
const shell = `export "$0=$$"; exec "$@"`

// throughShell is s with a shell that becomes the program.
func (s Spec) throughShell() Spec {
	s.Args = append([]string{"-c", shell, s.OwnPID, s.Path}, s.Args...)
	s.Path, s.Program, s.OwnPID = "/bin/sh", nil, ""
	return s
}

// withPID has first write the id into the environment of cmd, which is held meanwhile.
func (s Spec) withPID(cmd *exec.Cmd) (first func() error) {
	cmd.Env = append(cmd.Env, s.OwnPID+"="+noPID)
	return func() error { return writePID(cmd.Process.Pid, s.OwnPID) }
}
