//go:build !unix

package fdpass

import (
	"errors"
	"fmt"
)

var errUnsupported = fmt.Errorf("passing descriptors over a socket: %w on this system", errors.ErrUnsupported)

func closeFD(int) {}

// Send answers errors.ErrUnsupported: this system has no SCM_RIGHTS.
func Send(int, []byte, ...int) (int, error) { return 0, errUnsupported }

// Recv answers errors.ErrUnsupported: this system has no SCM_RIGHTS.
func Recv(int, []byte) (Message, error) { return Message{}, errUnsupported }

// CheckConnection answers errors.ErrUnsupported: nothing can have arrived.
func CheckConnection(int) error { return errUnsupported }

// Receiver receives nothing on this system.
type Receiver struct{}

// Recv answers errors.ErrUnsupported.
func (*Receiver) Recv(sock int, buf []byte) (Message, error) { return Recv(sock, buf) }
