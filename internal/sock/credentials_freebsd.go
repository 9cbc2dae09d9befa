package sock

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// solLocal is the level of a Unix socket's own options.
const solLocal = 0

// peerOf asks for LOCAL_PEERCRED. Its last field has the pid since FreeBSD 13 (unix(4),
// cr_pid of struct xucred), and 0 before.
func peerOf(fd int) (Credentials, error) {
	cred, err := unix.GetsockoptXucred(fd, solLocal, unix.LOCAL_PEERCRED)
	if err != nil {
		return Credentials{}, fmt.Errorf("read peer credentials: %w", err)
	}
	const at = unsafe.Sizeof(*cred) - unsafe.Sizeof(uintptr(0)) // a union with a pointer
	pid := *(*int32)(unsafe.Add(unsafe.Pointer(cred), at))
	return Credentials{UID: cred.Uid, PID: int(pid)}, nil
}
