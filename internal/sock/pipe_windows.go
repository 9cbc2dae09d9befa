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
	p = p[:min(n, len(p))]
	n, err = overlapped(fd, readPatience, func(o *windows.Overlapped) error {
		return windows.ReadFile(windows.Handle(fd), p, nil, o)
	})
	return n, orEOF(err)
}

// readPatience bounds the read of bytes that are there, which does not wait unless another
// holder of the connection takes them away meanwhile, against all rules.
const readPatience = time.Second

// sendParts sends the parts as one, as much as there is room for: syscall.EAGAIN when
// nothing went, syscall.EPIPE when the other end has gone.
func sendParts(fd int, parts [][]byte) (int, error) {
	var all []byte
	if len(parts) == 1 {
		all = parts[0]
	} else {
		for _, p := range parts {
			all = append(all, p...)
		}
	}
	if len(all) == 0 {
		return 0, nil
	}
	n, err := overlapped(fd, 0, func(o *windows.Overlapped) error {
		return windows.WriteFile(windows.Handle(fd), all, nil, o)
	})
	return n, orEPIPE(err)
}

func orEPIPE(err error) error {
	switch {
	case errors.Is(err, windows.ERROR_BROKEN_PIPE), errors.Is(err, windows.ERROR_NO_DATA), errors.Is(err, windows.ERROR_PIPE_NOT_CONNECTED):
		return syscall.EPIPE
	}
	return err
}

// overlapped makes a call, which may go on for as long as patience says, and returns how
// many bytes it moved: syscall.EAGAIN for none.
func overlapped(fd int, patience time.Duration, call func(*windows.Overlapped) error) (int, error) {
	event, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = windows.CloseHandle(event) }()
	// The low bit keeps the end of the call from a completion port that another holder
	// of the connection has bound.
	o := &windows.Overlapped{HEvent: event | 1}
	cancelled := false
	if err = call(o); errors.Is(err, windows.ERROR_IO_PENDING) {
		if wait, _ := windows.WaitForSingleObject(event, uint32(patience.Milliseconds())); wait != windows.WAIT_OBJECT_0 {
			cancelled = true
			_ = windows.CancelIoEx(windows.Handle(fd), o) // fails where it has just ended
		}
	} else if err != nil {
		return 0, err
	}
	var n uint32
	err = windows.GetOverlappedResult(windows.Handle(fd), o, &n, true)
	if cancelled && errors.Is(err, windows.ERROR_OPERATION_ABORTED) {
		if err = nil; n == 0 {
			err = syscall.EAGAIN
		}
	}
	return int(n), err
}

// Dial connects to the pipe at path, which can't act in this user's name. It never waits:
// syscall.EAGAIN when every instance of the pipe is taken, syscall.ENOENT when there is
// none. A Conn that is dropped is closed only once CloseWhenDropped was called.
func Dial(path string) (*Conn, error) {
	fd, err := openPipe(path)
	if err != nil {
		return nil, opError("dial", err)
	}
	return newConn(fd), nil
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
	if _, err := available(fd); err != nil && err != io.EOF {
		return fmt.Errorf("%w: not connected", ErrKind)
	}
	return nil
}

func closeFD(fd int) { _ = windows.CloseHandle(windows.Handle(fd)) }
