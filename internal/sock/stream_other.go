//go:build !unix && !windows

package sock

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// StreamPair answers errors.ErrUnsupported.
func StreamPair() (near *Conn, far *os.File, err error) {
	return nil, nil, fmt.Errorf("make a stream: %w on this system", errors.ErrUnsupported)
}

// AwaitHangup returns at once: this system does not tell half an end from a whole one.
func AwaitHangup(syscall.Conn) {}

// AwaitReceipt returns at once: no descriptor is on its way here.
func AwaitReceipt(syscall.Conn, time.Duration) {}

// EndOutput closes f.
func EndOutput(f *os.File) error { return f.Close() }
