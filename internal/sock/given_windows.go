package sock

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/windows"
)

// Inherited owns the handle that this process was started with under number, and keeps its
// own children from inheriting it. The error says that there is none.
func Inherited(number string) (*FD, error) {
	n, err := strconv.ParseUint(number, 10, 32) // handles have 32 bits, whatever the system
	if err != nil {
		return nil, fmt.Errorf("handle %q: %w", number, err)
	}
	if err := windows.SetHandleInformation(windows.Handle(n), windows.HANDLE_FLAG_INHERIT, 0); err != nil {
		return nil, fmt.Errorf("handle %d: %w", n, err)
	}
	return Own(int(n)), nil
}

// GivenTo notes that process pid, which has not been waited for, was started with what f
// was: where that is the far end of a channel, handles that are sent on the near one are
// for that process.
func (f *FD) GivenTo(pid int) error {
	if f.near == nil {
		return nil
	}
	return f.near.reach(uint32(pid))
}

// HeldBy notes that process pid, of which the caller has a handle, has the far end: handles that
// are sent on c are for that process.
func (c *Channel) HeldBy(pid int) error { return c.reach(uint32(pid)) }
