//go:build unix

package launch

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
)

// firstInherited is the number of the first descriptor in Spec.Inherit.
const firstInherited = 3

const root = "/"

// standardPath is PATH at login (spec 03 §11, step 6).
const standardPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// detached gives the process a session of its own: no terminal reaches it.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// group is the process group of its leader.
type group int

// lead is the group that the process has begun.
func lead(pid int) (group, error) { return group(pid), nil }

// end asks the group to end, or ends it. Its leader has not been reaped.
func (g group) end(now bool) error {
	sig := syscall.SIGTERM
	if now {
		sig = syscall.SIGKILL
	}
	return syscall.Kill(-int(g), sig)
}

func (group) close() {}

// bequest is what a program inherits beside its standard streams.
type bequest struct {
	files   []*os.File
	numbers []string // in the program
	own     []*os.File
}

// bequeath makes files of what is given. The caller closes the bequest, after an error too.
func (s Spec) bequeath() (b bequest, err error) {
	b.files = slices.Clone(s.Inherit)
	for _, fd := range s.Given {
		file, fileErr := fd.File("given")
		if fileErr != nil {
			err = errors.Join(err, fileErr)
			continue
		}
		b.files, b.own = append(b.files, file), append(b.own, file)
	}
	for i := range b.files {
		b.numbers = append(b.numbers, strconv.Itoa(firstInherited+i))
	}
	return b, err
}

func (b bequest) leaveTo(cmd *exec.Cmd) { cmd.ExtraFiles = b.files }

func (b bequest) close() {
	for _, file := range b.own {
		_ = file.Close()
	}
}

// NotifyUpgrade has c told when somebody asks for an upgrade: SIGUSR2.
func NotifyUpgrade(c chan<- os.Signal) { signal.Notify(c, syscall.SIGUSR2) }

// exitOf is how a process ended; s is nil where somebody else of this process has waited for
// it, as a program may that has the broker in it.
func exitOf(s *os.ProcessState) Exit {
	if s == nil {
		return Exit{Code: -1}
	}
	exit := Exit{Code: s.ExitCode()}
	if status, ok := s.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		exit.Signal = status.Signal().String()
	}
	return exit
}
