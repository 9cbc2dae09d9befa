package demo

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel kill the child when the demo itself is killed.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
