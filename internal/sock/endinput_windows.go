package sock

import (
	"context"
	"io"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// readerPause is how long it may take to learn that nobody reads a pipe any more, which
// nothing announces to who does not write.
const readerPause = 100 * time.Millisecond

// EndInput waits until nobody can read any more what comes from the other end of a
// connection and goes to output, a pipe: that connection has no half end, and so it alone says
// that the conversation is over, and true that c is to be closed. It is false when ctx ends.
func EndInput(ctx context.Context, _ interface{ CloseWrite() error }, output io.Writer) bool {
	f, ok := output.(*os.File)
	if !ok {
		<-ctx.Done()
		return false
	}
	for t := time.NewTicker(readerPause); ; {
		if unread(f) {
			t.Stop()
			return true
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false
		}
	}
}

// unread reports whether f is a pipe that nobody reads.
func unread(f *os.File) (gone bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return true // closed
	}
	const localInformation, connected = 24, 3 // FilePipeLocalInformation, FILE_PIPE_CONNECTED_STATE
	var info struct {
		_     [7]uint32 // type, configuration, instances, quotas, what can be read
		_     uint32    // room for writing
		state uint32
		end   uint32
	}
	var done windows.IO_STATUS_BLOCK
	_ = raw.Control(func(fd uintptr) {
		code, _, _ := queryFile.Call(fd, uintptr(unsafe.Pointer(&done)), uintptr(unsafe.Pointer(&info)), unsafe.Sizeof(info), localInformation)
		gone = code == 0 && info.state != connected
	})
	return gone
}
