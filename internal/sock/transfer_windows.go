package sock

import (
	"errors"
	"fmt"
	"math"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// ByNumber says that a connection is transferred by a number that the sender tells.
const ByNumber = true

// Transfer duplicates conn, which it borrows, into process pid, which serves the other end of
// to: with the same access, and not to be inherited. Nothing is sent; the caller tells the
// process Handle. Errors wrap ErrNotOpened or ErrNotDuplicated; the system's, where to has
// ended. The caller calls Close.
func Transfer(to *Conn, pid int, _ []byte, conn syscall.RawConn) (t Transferred, err error) {
	process, err := openReceiver(uint32(pid))
	if err != nil {
		return t, fmt.Errorf("%w: %w", ErrNotOpened, err)
	}
	t.receiver = Own(int(process))
	if err := to.connected(); err != nil { // who had that number may have ended before it was opened
		t.Close()
		return Transferred{}, err
	}
	var h windows.Handle
	ctlErr := conn.Control(func(fd uintptr) {
		h, err = copyInto(process, windows.Handle(fd))
	})
	if err = errors.Join(ctlErr, err); err == nil && (h == 0 || h == windows.InvalidHandle) {
		err = windows.ERROR_INVALID_HANDLE
	}
	if err != nil {
		t.Close()
		return Transferred{}, fmt.Errorf("%w, process %d: %w", ErrNotDuplicated, pid, err)
	}
	t.Handle = uint64(h)
	return t, nil
}

// connected is nil while the other end of c is open: what serves it has not ended.
func (c *Conn) connected() error {
	fd, ok := c.borrow()
	if !ok {
		return net.ErrClosed
	}
	defer c.giveBack()
	if _, err := available(fd); err != nil {
		return opError("transfer", syscall.EPIPE)
	}
	return nil
}

// TakeBack closes the handle in the other process again. That is right only until the process
// has been told of it: from then on it may have closed the handle itself, and the number may be
// another one's. An error wraps ErrLeftBehind.
func (t *Transferred) TakeBack() error {
	h := windows.Handle(t.Handle)
	err := takeBack(windows.Handle(t.receiver.n), []windows.Handle{h}, nil)
	if err == nil {
		t.Handle = 0
	}
	return err
}

// TakeHandle owns the handle of this process that the process at the other end of from calls
// number, as long as it can have come from there and nowhere else: a connection that was made
// by that very process, that is open for reading and writing, is not inherited, and that nobody
// in this process is known to have. Anything else is left as it is, and the error wraps
// ErrNotGiven. It does not say that the connection is good for anything (CheckConnection).
//
// A number is only a claim. A wrong one may name whatever this process has open: its standard
// input, a file, the pipe that it serves, a client's connection. To take such a thing would end
// it, and to close it as well. So what can be asked without touching the object comes first:
// questions about a pipe wait for a call on it that is under way, where the pipe is not for
// overlapped calls.
func TakeHandle(from syscall.Conn, number uint64) (Descriptors, error) {
	if number == 0 || number > math.MaxInt32 || number%handleStep != 0 { // -1 and so on mean this process
		return Descriptors{}, fmt.Errorf("%w: %#x is no handle", ErrNotGiven, number)
	}
	sender, err := senderOf(from)
	if err != nil {
		return Descriptors{}, err
	}
	fd := int(number)
	if isStandard(fd) || !serving.take(fd) {
		return Descriptors{}, fmt.Errorf("%w: %#x is one of its own", ErrNotGiven, number)
	}
	if err := given(fd, sender); err != nil {
		serving.drop(fd)
		return Descriptors{}, fmt.Errorf("%w: %#x: %w", ErrNotGiven, number, err)
	}
	return Descriptors{fds: []int{fd}}, nil
}

// handleStep divides every handle: the system does not look at the lowest two bits of one.
const handleStep = 4

func senderOf(from syscall.Conn) (pid uint32, err error) {
	err = withFD(from, func(fd int) (err error) {
		pid, err = otherEnd(fd)
		return err
	})
	return pid, err
}

func isStandard(fd int) bool {
	for _, which := range []uint32{windows.STD_INPUT_HANDLE, windows.STD_OUTPUT_HANDLE, windows.STD_ERROR_HANDLE} {
		if h, err := windows.GetStdHandle(which); err == nil && int(h) == fd {
			return true
		}
	}
	return false
}

var (
	handleFlags = kernel32.NewProc("GetHandleInformation")
	ntdll       = windows.NewLazySystemDLL("ntdll.dll")
	queryObject = ntdll.NewProc("NtQueryObject")
	queryFile   = ntdll.NewProc("NtQueryInformationFile")
)

// objectBasics is a PUBLIC_OBJECT_BASIC_INFORMATION.
type objectBasics struct {
	_      uint32
	access uint32
	_      [12]uint32
}

// readWrite is what both ends of a connection may do; one of an anonymous pipe may not.
const readWrite = windows.FILE_READ_DATA | windows.FILE_WRITE_DATA

// given is nil when handle fd is the serving end of a pipe that process sender has made, as it
// is behind a DuplicateHandle of spec 02 §11.
func given(fd int, sender uint32) error {
	var flags uint32
	if ok, _, err := handleFlags.Call(uintptr(fd), uintptr(unsafe.Pointer(&flags))); ok == 0 {
		return err
	}
	if flags != 0 {
		return errors.New("inherited, or kept from being closed")
	}
	var basics objectBasics
	status, _, _ := queryObject.Call(uintptr(fd), 0, uintptr(unsafe.Pointer(&basics)), unsafe.Sizeof(basics), 0)
	switch {
	case status != 0:
		return windows.NTStatus(status)
	case basics.access&readWrite != readWrite:
		return errors.New("not open for reading and writing")
	}
	var kind, server uint32
	if err := windows.GetNamedPipeInfo(windows.Handle(fd), &kind, nil, nil, nil); err != nil {
		return err
	}
	if kind&windows.PIPE_SERVER_END == 0 {
		return errors.New("not the serving end of a pipe")
	}
	if ok, _, err := serverProcess.Call(uintptr(fd), uintptr(unsafe.Pointer(&server))); ok == 0 {
		return err
	}
	if server != sender {
		return fmt.Errorf("a pipe of process %d, offered by process %d", server, sender)
	}
	return nil
}

const (
	fileModeInformation = 16
	fileSynchronous     = windows.FILE_SYNCHRONOUS_IO_ALERT | windows.FILE_SYNCHRONOUS_IO_NONALERT
)

// isOverlapped reports whether calls on fd need not wait.
func isOverlapped(fd int) (bool, error) {
	var result windows.IO_STATUS_BLOCK
	var mode uint32
	status, _, _ := queryFile.Call(uintptr(fd), uintptr(unsafe.Pointer(&result)), uintptr(unsafe.Pointer(&mode)), unsafe.Sizeof(mode), fileModeInformation)
	if status != 0 {
		return false, windows.NTStatus(status)
	}
	return mode&fileSynchronous == 0, nil
}
