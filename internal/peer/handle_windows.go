package peer

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/internal/sock"
)

const handles = "handle"

// processHandle keeps its process' pid from being used again, and is set when the process
// ends.
type processHandle struct {
	mu   sync.Mutex     // guards what follows
	h    windows.Handle // zero once closed
	stop windows.Handle // an event that ends awaitExit; zero unless that waits
}

func openHandle(pid int) (handle, error) {
	h, err := windows.OpenProcess(windows.SYNCHRONIZE|windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if errors.Is(err, windows.ERROR_INVALID_PARAMETER) { // its word for no such process
		err = syscall.ESRCH
	}
	if err != nil {
		return nil, err
	}
	return &processHandle{h: h}, nil
}

func (p *processHandle) exited() (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.h == 0 {
		return false, os.ErrClosed
	}
	found, err := windows.WaitForSingleObject(p.h, 0)
	return found == windows.WAIT_OBJECT_0, err
}

// awaitExit waits on a handle of its own, which close does not close under it.
func (p *processHandle) awaitExit() error {
	own, stop, err := p.beginWait()
	if err != nil {
		return err
	}
	found, err := windows.WaitForMultipleObjects([]windows.Handle{own, stop}, false, windows.INFINITE)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stop = 0
	_ = windows.CloseHandle(own)
	_ = windows.CloseHandle(stop)
	switch {
	case err != nil:
		return err
	case found == windows.WAIT_OBJECT_0:
		return nil
	}
	return os.ErrClosed
}

func (p *processHandle) beginWait() (own, stop windows.Handle, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.h == 0 {
		return 0, 0, os.ErrClosed
	}
	if own, err = sock.CopyHandle(p.h); err != nil {
		return 0, 0, err
	}
	if stop, err = windows.CreateEvent(nil, 1, 0, nil); err != nil {
		_ = windows.CloseHandle(own)
		return 0, 0, err
	}
	p.stop = stop
	return own, stop, nil
}

func (p *processHandle) share() (*sock.FD, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.h == 0 {
		return nil, os.ErrClosed
	}
	h, err := sock.CopyHandle(p.h)
	if err != nil {
		return nil, err
	}
	return sock.Own(int(h)), nil
}

// resumeHandle makes another handle of what share has returned, and says whose it is.
func resumeHandle(fd *sock.FD) (int, handle, error) {
	n, ok := sock.Borrow(fd)
	if !ok {
		return 0, nil, os.ErrClosed
	}
	defer sock.Return(fd)
	pid, err := windows.GetProcessId(windows.Handle(n))
	if err != nil {
		return 0, nil, fmt.Errorf("whose handle it is: %w", err)
	}
	h, err := sock.CopyHandle(windows.Handle(n))
	if err != nil {
		return 0, nil, err
	}
	return int(pid), &processHandle{h: h}, nil
}

func (p *processHandle) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.h == 0 {
		return
	}
	_ = windows.CloseHandle(p.h)
	p.h = 0
	if p.stop != 0 {
		_ = windows.SetEvent(p.stop)
	}
}

// longestPath is what a path of Windows can have, in characters.
const longestPath = 1 << 15

func executableOf(pid int) (string, error) {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return "", err
	}
	defer func() { _ = windows.CloseHandle(h) }()
	name := make([]uint16, longestPath)
	n := uint32(len(name))
	if err := windows.QueryFullProcessImageName(h, 0, &name[0], &n); err != nil {
		return "", fmt.Errorf("image of the process: %w", err)
	}
	return windows.UTF16ToString(name[:n]), nil
}
