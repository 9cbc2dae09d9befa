package sock

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

var errUnsupported = fmt.Errorf("descriptors beside bytes: %w on this system", errors.ErrUnsupported)

// What goes beside bytes here goes ahead of them (pass_windows.go), so a message is never
// a datagram.

func isStream(int) bool { return true }

func sendRights(int, []byte, []int) (int, error) { return 0, errUnsupported }

type receiver struct{}

func (*receiver) recv(int, []byte) (Received, error) { return Received{}, errUnsupported }

func setNonblock(int, bool) error { return nil } // handles are opened for overlapped calls

// StreamPair answers errors.ErrUnsupported.
func StreamPair() (near *Conn, far *os.File, err error) {
	return nil, nil, fmt.Errorf("make a stream: %w on this system", errors.ErrUnsupported)
}

// AwaitHangup returns at once: a pipe has no half end.
func AwaitHangup(syscall.Conn) {}

// AwaitReceipt returns at once: no descriptor is on its way here.
func AwaitReceipt(syscall.Conn, time.Duration) {}

// EndOutput closes f.
func EndOutput(f *os.File) error { return f.Close() }
