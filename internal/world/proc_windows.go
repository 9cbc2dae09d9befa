package world

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/internal/usage"
)

var (
	kernel32       = windows.NewLazySystemDLL("kernel32.dll")
	memoryInfo     = kernel32.NewProc("K32GetProcessMemoryInfo")
	isProcessInJob = kernel32.NewProc("IsProcessInJob")

	ntdll          = windows.NewLazySystemDLL("ntdll.dll")
	suspendProcess = ntdll.NewProc("NtSuspendProcess")
	resumeProcess  = ntdll.NewProc("NtResumeProcess")
	queryObject    = ntdll.NewProc("NtQueryObject")
)

// status is the error of a call that returns an NTSTATUS.
func status(code, _ uintptr, _ error) error {
	if code != 0 {
		return windows.NTStatus(code)
	}
	return nil
}

// withProcess opens a process for do.
func withProcess(pid int, access uint32, do func(windows.Handle) error) error {
	p, err := windows.OpenProcess(access, false, uint32(pid))
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer func() { _ = windows.CloseHandle(p) }()
	return do(p)
}

func supported() error { return nil }

// prepare has the process begin in the World's job: see group.
func prepare(cmd *exec.Cmd, foreign bool) error {
	if foreign {
		return errors.ErrUnsupported
	}
	// With a console of its own it has what a successor has, which a broker starts.
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_SUSPENDED | windows.CREATE_NO_WINDOW}
	return nil
}

func awaitLeader(int) {}

func signalGroup(int, os.Signal) error { return errors.ErrUnsupported }

// Raise ends this process as a crash would, whatever the signal is: there are no others.
func Raise(syscall.Signal) error { return windows.TerminateProcess(windows.CurrentProcess(), 1) }

func (p *Process) freeze() error {
	return withProcess(p.PID(), windows.PROCESS_SUSPEND_RESUME, func(h windows.Handle) error {
		return status(suspendProcess.Call(uintptr(h)))
	})
}

// AwaitFrozen returns at once: the call that freezes a process stops each of its threads.
func (p *Process) AwaitFrozen(context.Context) error { return nil }

// Thaw makes a frozen process continue.
func (p *Process) Thaw() error {
	return withProcess(p.PID(), windows.PROCESS_SUSPEND_RESUME, func(h windows.Handle) error {
		return status(resumeProcess.Call(uintptr(h)))
	})
}

// Ended reports whether the process is no more.
func Ended(pid int) bool {
	err := withProcess(pid, windows.SYNCHRONIZE, func(p windows.Handle) error {
		if found, err := windows.WaitForSingleObject(p, 0); err != nil || found == windows.WAIT_OBJECT_0 {
			return os.ErrProcessDone
		}
		return nil
	})
	return err != nil
}

// Descriptors counts what the process has open.
func (p *Process) Descriptors() (int, error) { return Descriptors(p.PID()) }

// Descriptors counts the handles of a process that usher opens, but for events.
func Descriptors(pid int) (int, error) {
	h, err := Holds(pid)
	return h.Descriptors, err
}

// eventsOfThread is how many events a thread of Go's runtime has at most: it waits on them.
const eventsOfThread = 2

// Holds is what a process has open of what usher opens: files, as pipes are, processes, jobs
// and events. Of the others the runtime and the system make more as they like.
func Holds(pid int) (h Held, err error) {
	err = withProcess(pid, windows.PROCESS_DUP_HANDLE, func(p windows.Handle) error {
		open, err := usage.Handles(pid)
		for _, n := range open {
			switch kindOf(p, n) {
			case "File", "Process", "Job":
				h.Descriptors++
			case "Event":
				h.events++
			case "Thread":
				h.spare += eventsOfThread
			}
		}
		return err
	})
	return h, err
}

// kindOf is the type of what a process has open as n; "" where that can't be told, as of what
// it has closed by now.
func kindOf(p, n windows.Handle) string {
	var own windows.Handle
	if windows.DuplicateHandle(p, n, windows.CurrentProcess(), &own, 0, false, 0) != nil {
		return ""
	}
	defer func() { _ = windows.CloseHandle(own) }()
	const typeInformation = 2
	var buf [512]uint64 // where a UNICODE_STRING is aligned
	if status(queryObject.Call(uintptr(own), typeInformation, uintptr(unsafe.Pointer(&buf)), unsafe.Sizeof(buf), 0)) != nil {
		return ""
	}
	return (*windows.NTUnicodeString)(unsafe.Pointer(&buf)).String()
}

// CPUTime is the processor time of a process so far, of ended threads too.
func CPUTime(pid int) (sum time.Duration, err error) {
	err = withProcess(pid, windows.PROCESS_QUERY_LIMITED_INFORMATION, func(p windows.Handle) error {
		var began, ended, kernel, user windows.Filetime
		if err := windows.GetProcessTimes(p, &began, &ended, &kernel, &user); err != nil {
			return err
		}
		const tick = 100 * time.Nanosecond
		for _, t := range []windows.Filetime{kernel, user} {
			sum += time.Duration(int64(t.HighDateTime)<<32|int64(t.LowDateTime)) * tick
		}
		return nil
	})
	return sum, err
}

// ResidentSet is what the process has in memory, in bytes.
func (p *Process) ResidentSet() (int64, error) {
	var counters struct { // PROCESS_MEMORY_COUNTERS
		size, _ uint32
		_       uintptr
		working uintptr
		_       [6]uintptr
	}
	counters.size = uint32(unsafe.Sizeof(counters))
	err := withProcess(p.PID(), windows.PROCESS_QUERY_INFORMATION, func(h windows.Handle) error {
		if ok, _, err := memoryInfo.Call(uintptr(h), uintptr(unsafe.Pointer(&counters)), uintptr(counters.size)); ok == 0 {
			return fmt.Errorf("memory of %s: %w", p.Name, err)
		}
		return nil
	})
	return int64(counters.working), err
}

// Switches is for Linux.
func (p *Process) Switches() (int64, error) {
	return 0, fmt.Errorf("how often %s was woken: %w on this system", p.Name, errors.ErrUnsupported)
}
