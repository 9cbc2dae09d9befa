package world

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// directoryVariables name the directories that usher has its own in.
var directoryVariables = []string{stateVariable, "APPDATA"}

const (
	stateVariable    = "LOCALAPPDATA"
	socketSuffix     = ""
	executableSuffix = ".exe"
)

// maxDir leaves room for the names of files.
const maxDir = windows.MAX_PATH - 60

// socketsOf: a pipe is in no directory.
func socketsOf(string) string { return `\\.\pipe\usher-world-` + rand.Text() + "-" }

// ToolName is the name of a World's tool: that of its pipe comes from it alone.
func (w *World) ToolName(name string) string { return name + "-" + filepath.Base(w.Dir) }

// takePlace moves away what is at path: while it runs it is not written to, nor removed.
func takePlace(fresh, path string) error {
	err := os.Rename(path, path+"."+rand.Text())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(fresh, path)
}

// removeAll is os.RemoveAll by the calls that Wine has. A file is not removed while the
// console of a process that has ended has it open still.
func removeAll(dir string) error {
	return Until(context.Background(), "removed "+dir, func() (bool, error) {
		var all []string
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			all = append(all, path)
			return err
		})
		for _, path := range slices.Backward(all) {
			err = errors.Join(err, os.Remove(path))
		}
		return err == nil, nil
	})
}

// group is a job: all that is started in it, however late, ends with it, or when this
// process does.
type group struct{ job windows.Handle }

func newGroup() (g group, err error) {
	if g.job, err = windows.CreateJobObject(nil, nil); err != nil {
		return g, fmt.Errorf("make a job: %w", err)
	}
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	_, err = windows.SetInformationJobObject(g.job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)))
	return g, err
}

// add takes in a process that was started suspended, and lets it go.
func (g group) add(pid int) error {
	return withProcess(pid, windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE|windows.PROCESS_SUSPEND_RESUME, func(p windows.Handle) error {
		if err := windows.AssignProcessToJobObject(g.job, p); err != nil {
			return fmt.Errorf("put process %d into a job: %w", pid, err)
		}
		return status(resumeProcess.Call(uintptr(p)))
	})
}

// has reports whether the process, which p is open for, was started in the group.
func (g group) has(p windows.Handle) bool {
	var in int32
	ok, _, _ := isProcessInJob.Call(uintptr(p), uintptr(g.job), uintptr(unsafe.Pointer(&in)))
	return ok != 0 && in != 0
}

func (g group) end() {
	if g.job != 0 {
		_ = windows.CloseHandle(g.job)
	}
}

// AdoptOrphans does nothing: processes that outlive their parents are in the World's job.
func AdoptOrphans() error { return nil }

// EndDetached ends those of the processes that were started by processes of the World.
func (w *World) EndDetached(pids ...int) error {
	var left []string
	for _, pid := range pids {
		if slices.ContainsFunc(w.own(), func(p *Process) bool { return p.PID() == pid }) {
			continue
		}
		err := withProcess(pid, windows.PROCESS_TERMINATE|windows.PROCESS_QUERY_INFORMATION|windows.SYNCHRONIZE, func(p windows.Handle) error {
			if !w.group.has(p) { // the number is another's by now
				return nil
			}
			_ = windows.TerminateProcess(p, 1) // fails where it ends already
			_, err := windows.WaitForSingleObject(p, uint32(stopTimeout.Milliseconds()))
			return err
		})
		if err != nil && !Ended(pid) {
			left = append(left, fmt.Sprintf("%d (%v)", pid, err))
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("processes do not end: %s", strings.Join(left, ", "))
	}
	return nil
}

// own are the processes that the World has started itself.
func (w *World) own() []*Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.all)
}
