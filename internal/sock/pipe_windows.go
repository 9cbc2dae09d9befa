package sock

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// This file is the system calls on named pipes. All handles are opened for overlapped
// calls, and a call here waits on an event of its own: the file behind a handle can be
// bound to one completion port, and once, and whoever gets the connection last binds it.

var (
	kernel32      = windows.NewLazySystemDLL("kernel32.dll")
	peekNamedPipe = kernel32.NewProc("PeekNamedPipe")
	clientProcess = kernel32.NewProc("GetNamedPipeClientProcessId")
	serverProcess = kernel32.NewProc("GetNamedPipeServerProcessId")
	waitNamedPipe = kernel32.NewProc("WaitNamedPipeW")
)

// namesPipe begins the name of every pipe of this machine.
const namesPipe = `\\.\pipe\`

// room is what a pipe holds of what nobody has read yet, in bytes, in each direction: many
// of the largest messages.
const room = 256 << 10

// available is how many bytes can be read at once; io.EOF where the other end has gone and
// nothing is left.
func available(fd int) (int, error) {
	var n uint32
	if ok, _, err := peekNamedPipe.Call(uintptr(fd), 0, 0, 0, uintptr(unsafe.Pointer(&n)), 0); ok == 0 {
		return 0, orEOF(err)
	}
	return int(n), nil
}

func orEOF(err error) error {
	if errors.Is(err, windows.ERROR_BROKEN_PIPE) || errors.Is(err, windows.ERROR_PIPE_NOT_CONNECTED) {
		return io.EOF
	}
	return err
}

// recv reads what is there, without waiting: syscall.EAGAIN when nothing is.
func recv(fd int, p []byte) (int, error) {
	n, err := available(fd)
	switch {
	case err != nil:
		return 0, err
	case n == 0:
		return 0, syscall.EAGAIN
	}
	call, err := newCall()
	if err != nil {
		return 0, err
	}
	defer call.close()
	if err := windows.ReadFile(windows.Handle(fd), p, nil, &call.Overlapped); errors.Is(err, windows.ERROR_IO_PENDING) {
		if !call.over(readPatience) {
			_ = windows.CancelIoEx(windows.Handle(fd), &call.Overlapped) // fails where it has just ended
		}
	} else if err != nil {
		return 0, orEOF(err)
	}
	n, err = call.result(fd)
	if errors.Is(err, windows.ERROR_OPERATION_ABORTED) {
		err = syscall.EAGAIN
	}
	return n, orEOF(err)
}

// call is an overlapped call with an event of its own. It must not be dropped before it is
// over.
type call struct{ windows.Overlapped }

func newCall() (*call, error) {
	event, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return nil, err
	}
	// The low bit keeps the end of the call from a completion port that another holder
	// of the connection has bound.
	return &call{windows.Overlapped{HEvent: event | 1}}, nil
}

// over waits until the call is over, for patience at most; less than nothing is for ever.
func (c *call) over(patience time.Duration) bool {
	wait := uint32(windows.INFINITE)
	if patience >= 0 {
		wait = uint32(patience.Milliseconds())
	}
	found, _ := windows.WaitForSingleObject(c.HEvent, wait)
	return found == windows.WAIT_OBJECT_0
}

// result waits for the end of the call, and returns how many bytes it has moved.
func (c *call) result(fd int) (int, error) {
	var n uint32
	err := windows.GetOverlappedResult(windows.Handle(fd), &c.Overlapped, &n, true)
	return int(n), err
}

func (c *call) close() { _ = windows.CloseHandle(c.HEvent) }

// readPatience bounds the read of bytes that are there, which does not wait unless another
// holder of the connection takes them away meanwhile, against all rules.
const readPatience = time.Second

func orEPIPE(err error) error {
	switch {
	case errors.Is(err, windows.ERROR_BROKEN_PIPE), errors.Is(err, windows.ERROR_NO_DATA), errors.Is(err, windows.ERROR_PIPE_NOT_CONNECTED):
		return syscall.EPIPE
	}
	return err
}

// Dial connects to the pipe at path, which can't act in this user's name. It doesn't wait:
// syscall.EAGAIN when every instance of the pipe is taken, or there is none and somebody holds
// the pipe's name (HoldName), who is about to make one or to end; syscall.ENOENT when there is
// none, or none but those of connections that have outlived their server: then nobody holds
// the name, and no instance becomes free in busyTime, within which one of a server that holds
// no name may. A Conn that is dropped is closed only once CloseWhenDropped was called.
func Dial(path string) (*Conn, error) {
	fd, err := openPipe(path)
	switch {
	case err == syscall.EAGAIN && !isHeld(path):
		if !becomesFree(path) {
			return nil, opError("dial", syscall.ENOENT)
		}
		fd, err = openPipe(path)
	case errors.Is(err, syscall.ENOENT) && isHeld(path):
		err = syscall.EAGAIN
	}
	if err != nil {
		return nil, opError("dial", err)
	}
	return newConn(fd), nil
}

func isHeld(path string) bool {
	fd, err := openPipe(OwnerName(path))
	if err == nil {
		closeFD(fd)
	}
	return !errors.Is(err, syscall.ENOENT)
}

// busyTime is how long a server that holds no name may have no instance that is free.
const busyTime = 100 * time.Millisecond

func becomesFree(path string) bool {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return false
	}
	ok, _, _ := waitNamedPipe.Call(uintptr(unsafe.Pointer(name)), uintptr(busyTime.Milliseconds()))
	return ok != 0
}

func openPipe(path string) (int, error) {
	if err := CheckName(path); err != nil {
		return -1, err
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return -1, err
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil, windows.OPEN_EXISTING,
		windows.FILE_FLAG_OVERLAPPED|windows.SECURITY_SQOS_PRESENT|windows.SECURITY_ANONYMOUS, 0)
	if errors.Is(err, windows.ERROR_PIPE_BUSY) {
		err = syscall.EAGAIN
	}
	return int(h), err
}

// CheckName returns nil where path is the name of a pipe of this machine.
func CheckName(path string) error {
	if len(path) <= len(namesPipe) || !strings.EqualFold(path[:len(namesPipe)], namesPipe) {
		return fmt.Errorf("%s is not the name of a pipe, which begins with %s", path, namesPipe)
	}
	return nil
}

// otherEnd is the process that has opened, or serves, the other end of a pipe.
func otherEnd(fd int) (pid uint32, err error) {
	var flags uint32
	if err := windows.GetNamedPipeInfo(windows.Handle(fd), &flags, nil, nil, nil); err != nil {
		return 0, err
	}
	ask := serverProcess
	if flags&windows.PIPE_SERVER_END != 0 {
		ask = clientProcess
	}
	if ok, _, err := ask.Call(uintptr(fd), uintptr(unsafe.Pointer(&pid))); ok == 0 {
		return 0, err
	}
	return pid, nil
}

// checkConnection is Descriptors.CheckConnection: the serving end of a pipe, which is what
// a broker accepts.
func checkConnection(fd int) error {
	var flags uint32
	if err := windows.GetNamedPipeInfo(windows.Handle(fd), &flags, nil, nil, nil); err != nil {
		return fmt.Errorf("%w: not a pipe", ErrKind)
	}
	if flags&windows.PIPE_SERVER_END == 0 {
		return fmt.Errorf("%w: not the serving end of a pipe", ErrKind)
	}
	if flags&windows.PIPE_TYPE_MESSAGE != 0 {
		return fmt.Errorf("%w: a pipe of messages", ErrKind)
	}
	if overlapped, err := isOverlapped(fd); err != nil || !overlapped {
		return fmt.Errorf("%w: a pipe that has callers wait", ErrKind)
	}
	if _, err := available(fd); err != nil && err != io.EOF {
		return fmt.Errorf("%w: not connected", ErrKind)
	}
	return nil
}

func closeFD(fd int) { serving.end(fd, func() { _ = windows.CloseHandle(windows.Handle(fd)) }) }
