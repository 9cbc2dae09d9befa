//go:build unix

package sock

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sendRights sends data with fds in one message on socket sock and returns how many
// bytes went. It never blocks (MSG_DONTWAIT) and never raises SIGPIPE. It borrows all.
func sendRights(sock int, data []byte, fds []int) (int, error) {
	if len(fds) <= usualFDs {
		return sendFew(sock, data, fds)
	}
	return sendmsg(sock, data, unix.UnixRights(fds...))
}

// fewSpace has room for the control message of usualFDs descriptors: NetBSD aligns its parts
// to 16 bytes on arm64.
const fewSpace = 32

// sendFew is sendRights without a buffer to allocate.
func sendFew(sock int, data []byte, fds []int) (int, error) {
	var space [fewSpace]byte
	if len(fds) == 0 {
		return sendmsg(sock, data, nil)
	}
	hdr := (*unix.Cmsghdr)(unsafe.Pointer(&space))
	hdr.Level, hdr.Type = unix.SOL_SOCKET, unix.SCM_RIGHTS
	hdr.SetLen(unix.CmsgLen(4 * len(fds)))
	for i, fd := range fds {
		binary.NativeEndian.PutUint32(space[unix.CmsgLen(4*i):], uint32(fd))
	}
	return sendmsg(sock, data, space[:unix.CmsgSpace(4*len(fds))])
}

// receiver receives messages one after the other into the same buffers. The zero
// value is ready; not safe for concurrent use.
type receiver struct {
	control []byte
	fds     []int
	lost    bool // what went beside the next bytes
}

// controlSpace has room for every descriptor that one message can carry, so
// that surplus ones are seen and closed instead of silently installed: macOS and the BSDs
// carry 254.
var controlSpace = unix.CmsgSpace(4 * (MaxDescriptors + 1))

// recv reads one message from socket sock into buf, without blocking
// (EAGAIN when there is none). Received descriptors are close-on-exec and
// belong to what it returns, which is valid until the next recv: what has not been
// taken by then is closed.
//
// A peer that left with messages unread is ECONNRESET once, ahead of what it had sent
// itself; behind that comes end of file. So it is asked again.
func (r *receiver) recv(sock int, buf []byte) (Received, error) {
	left := Descriptors{r.fds}
	left.Close()
	r.fds = r.fds[:0]
	if r.control == nil {
		r.control = make([]byte, controlSpace)
	}
	for again := false; ; {
		n, cn, flags, err := recvmsg(sock, buf, r.control)
		if err == unix.EINTR {
			continue
		}
		if err != nil && !again && r.passes(err) {
			again = true
			continue
		}
		if err != nil {
			return Received{}, err
		}
		return r.parse(n, r.control[:cn], flags), nil
	}
}

// passes reports whether err comes once, ahead of bytes. macOS and the BSDs say EMSGSIZE,
// and FreeBSD by now EMFILE, where the descriptor table has no room for what came beside
// these, and close that.
func (r *receiver) passes(err error) bool {
	full := err == unix.EMSGSIZE || err == unix.EMFILE
	r.lost = r.lost || full
	return full || err == unix.ECONNRESET
}

func (r *receiver) parse(n int, control []byte, flags int) Received {
	m := Received{N: n}
	for len(control) > 0 {
		hdr, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			m.Fault = ErrDescriptorsLost
			break
		}
		control = rest
		if hdr.Level != unix.SOL_SOCKET || hdr.Type != unix.SCM_RIGHTS {
			continue
		}
		if len(data)%4 != 0 {
			m.Fault = ErrDescriptorsLost
		}
		for ; len(data) >= 4; data = data[4:] {
			r.fds = append(r.fds, int(int32(binary.NativeEndian.Uint32(data))))
		}
	}
	m.FDs = Descriptors{r.fds}
	switch {
	case flags&unix.MSG_CTRUNC != 0, r.lost && n > 0:
		m.Fault, r.lost = ErrDescriptorsLost, false
	case flags&unix.MSG_TRUNC != 0 && m.Fault == nil:
		m.Fault = ErrTruncated
	}
	return m
}

// isStream reports whether fd is a stream socket.
func isStream(fd int) bool {
	sotype, err := socketType(fd)
	return err == nil && sotype == unix.SOCK_STREAM
}

// checkConnection is Descriptors.CheckConnection. Two questions are enough: a socket
// with a peer whose address is a Unix one is connected, of that domain, and no listener.
func checkConnection(fd int) error {
	sotype, err := socketType(fd)
	if err != nil {
		return fmt.Errorf("%w: not a socket", ErrKind)
	}
	if sotype != unix.SOCK_STREAM {
		return fmt.Errorf("%w: not a stream socket", ErrKind)
	}
	family, err := peerFamily(fd)
	if err != nil {
		return withoutPeer(fd)
	}
	if family != unix.AF_UNIX {
		return fmt.Errorf("%w: not a Unix socket", ErrKind)
	}
	return nil
}

// withoutPeer says what a stream socket without a peer's name is. On macOS and the BSDs it may
// be a connection whose peer has gone, as a client may before it is adopted: there, who that
// was stays known, and of a socket that never was connected is not.
func withoutPeer(fd int) error {
	if local, err := unix.Getsockname(fd); err == nil {
		if _, ok := local.(*unix.SockaddrUnix); !ok {
			return fmt.Errorf("%w: not a Unix socket", ErrKind)
		}
	}
	if listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && listening != 0 {
		return fmt.Errorf("%w: a listening socket", ErrKind)
	}
	const nobody = 1<<32 - 1 // Linux' word
	if cred, err := peerOf(fd); err == nil && cred.UID != nobody {
		return nil
	}
	return fmt.Errorf("%w: not connected", ErrKind)
}
