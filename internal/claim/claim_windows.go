package claim

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/internal/sock"
)

var system = kernel{eventfd: newEvent, pipe: func() (*sock.FD, error) { return nil, errors.ErrUnsupported }}

// eventMeans is what an event is called here.
const eventMeans = "event"

// newEvent makes a claim of an event that one wait resets: that wait takes it.
func newEvent() (*sock.FD, error) {
	h, err := windows.CreateEvent(nil, 0, 1, nil)
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	return sock.Own(int(h)), nil
}

// Receive makes a Claim of a handle that came with a connection, and owns it from then on.
// After an error, which wraps ErrForeign, it is closed. What a wait does not reset is
// refused: two could take it.
func Receive(fd *sock.FD) (*Claim, error) {
	if err := check(fd); err != nil {
		fd.Close()
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return &Claim{fd: fd}, nil
}

var queryEvent = windows.NewLazySystemDLL("ntdll.dll").NewProc("NtQueryEvent")

// autoReset is the type of an event that one wait resets (SynchronizationEvent).
const autoReset = 1

func check(fd *sock.FD) error {
	h, ok := sock.Borrow(fd)
	if !ok {
		return os.ErrClosed
	}
	defer sock.Return(fd)
	var basic struct{ kind, state int32 }
	status, _, _ := queryEvent.Call(uintptr(h), 0, uintptr(unsafe.Pointer(&basic)), unsafe.Sizeof(basic), 0)
	if status != 0 {
		return fmt.Errorf("no event: %w", windows.NTStatus(status))
	}
	if basic.kind != autoReset {
		return errors.New("a wait leaves it as it is")
	}
	return nil
}

func take(fd *sock.FD) (bool, error) {
	h, ok := sock.Borrow(fd)
	if !ok {
		return false, fmt.Errorf("take claim: %w", windows.ERROR_INVALID_HANDLE)
	}
	defer sock.Return(fd)
	switch found, err := windows.WaitForSingleObject(windows.Handle(h), 0); found {
	case windows.WAIT_OBJECT_0:
		return true, nil
	case uint32(windows.WAIT_TIMEOUT):
		return false, nil
	default:
		return false, fmt.Errorf("take claim: %w", err)
	}
}
