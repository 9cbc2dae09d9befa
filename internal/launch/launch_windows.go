package launch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/internal/sock"
)

// root is where a process works that is told no directory: one that nobody removes, which
// Windows forbids while somebody works there.
var root = filepath.VolumeName(os.Getenv("SystemRoot")) + `\`

// detached gives the process a console of its own that is never seen, so that its children
// open none either; no key reaches it. It does nothing before it is in its group.
func detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		HideWindow:    true,
		CreationFlags: windows.CREATE_NO_WINDOW | windows.CREATE_NEW_PROCESS_GROUP | windows.CREATE_SUSPENDED,
	}
}

// group is a job: the process, and all that it starts. It lives on when the job is closed.
type group struct{ job windows.Handle } // zero once closed

var resumeProcess = windows.NewLazySystemDLL("ntdll.dll").NewProc("NtResumeProcess")

// lead makes a group of a process that was started suspended and has not been waited for,
// and lets it go. Until it runs it ends with this process.
func lead(pid int) (group, error) { return leadWith(pid, 0) }

// leadWith is lead; the job has the limits before the process runs, and keeps them.
func leadWith(pid int, limits uint32) (g group, err error) {
	process, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE|windows.PROCESS_SUSPEND_RESUME, false, uint32(pid))
	if err != nil {
		return g, fmt.Errorf("open the process: %w", err)
	}
	defer func() { _ = windows.CloseHandle(process) }()
	if g.job, err = windows.CreateJobObject(nil, nil); err != nil {
		return g, fmt.Errorf("make a job: %w", err)
	}
	err = g.limit(windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | limits)
	if err == nil {
		err = windows.AssignProcessToJobObject(g.job, process)
	}
	if err == nil {
		if status, _, _ := resumeProcess.Call(uintptr(process)); status != 0 {
			err = windows.NTStatus(status)
		}
	}
	if err == nil {
		err = g.limit(limits)
	}
	if err != nil {
		g.close()
		return g, fmt.Errorf("put the process into a job: %w", err)
	}
	return g, nil
}

func (g group) limit(flags uint32) error {
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = flags
	_, err := windows.SetInformationJobObject(g.job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)))
	return err
}

// endedCode is the exit code of a process that was ended.
const endedCode = 1

// end ends the group. Nobody can be asked to: that takes a console in common.
func (g group) end(now bool) error {
	if !now {
		return errors.ErrUnsupported
	}
	return windows.TerminateJobObject(g.job, endedCode)
}

func (g *group) close() {
	if g.job != 0 {
		_ = windows.CloseHandle(g.job)
		g.job = 0
	}
}

// bequest is what a program inherits beside its standard streams. No file is made of what is
// given: it would be bound to this process' completion port for as long as it lives.
type bequest struct {
	files   []*os.File // none: a program has no places for them
	numbers []string   // in the program
	handles []syscall.Handle
}

// bequeath makes handles that are inherited. The caller closes the bequest, after an error
// too.
func (s Spec) bequeath() (b bequest, err error) {
	for _, file := range s.Inherit {
		raw, fileErr := file.SyscallConn()
		if fileErr == nil {
			ctlErr := raw.Control(func(h uintptr) { fileErr = b.add(windows.Handle(h)) })
			fileErr = errors.Join(fileErr, ctlErr)
		}
		err = errors.Join(err, fileErr)
	}
	for _, fd := range s.Given {
		if h, ok := sock.Borrow(fd); ok {
			err = errors.Join(err, b.add(windows.Handle(h)))
			sock.Return(fd)
		} else {
			err = errors.Join(err, os.ErrClosed)
		}
		fd.Close()
	}
	return b, err
}

func (b *bequest) add(h windows.Handle) error {
	var own windows.Handle
	self := windows.CurrentProcess()
	if err := windows.DuplicateHandle(self, h, self, &own, 0, true, windows.DUPLICATE_SAME_ACCESS); err != nil {
		return err
	}
	b.numbers, b.handles = append(b.numbers, strconv.FormatUint(uint64(own), 10)), append(b.handles, syscall.Handle(own))
	return nil
}

// leaveTo has cmd, and no other process that is started meanwhile, inherit it.
func (b bequest) leaveTo(cmd *exec.Cmd) { cmd.SysProcAttr.AdditionalInheritedHandles = b.handles }

func (b bequest) close() {
	for _, h := range b.handles {
		_ = syscall.CloseHandle(h)
	}
}

// NotifyUpgrade does nothing: this system has no signal for it.
func NotifyUpgrade(chan<- os.Signal) {}

// exitOf is how a process ended; s is nil where somebody else of this process has waited for
// it.
func exitOf(s *os.ProcessState) Exit {
	if s == nil {
		return Exit{Code: -1}
	}
	return Exit{Code: s.ExitCode()}
}
