//go:build !windows

package sock

import (
	"errors"
	"syscall"
)

// ByNumber says that a connection is transferred by a number that the sender tells.
const ByNumber = false

// Transfer sends data on to, and beside it conn, which it borrows; process pid has the other
// end.
func Transfer(to *Conn, _ int, data []byte, conn syscall.RawConn) (Transferred, error) {
	n, err := SendRaw(to, data, conn)
	return Transferred{Sent: n}, err
}

// TakeBack is ErrLeftBehind: what has gone can't be taken back.
func (t *Transferred) TakeBack() error { return ErrLeftBehind }

// TakeHandle answers errors.ErrUnsupported: descriptors come beside bytes.
func TakeHandle(syscall.Conn, uint64) (Descriptors, error) {
	return Descriptors{}, errors.ErrUnsupported
}
