//go:build !unix && !windows

package sock

import (
	"errors"
	"fmt"
)

var errUnsupported = fmt.Errorf("passing descriptors over a socket: %w on this system", errors.ErrUnsupported)

func closeFD(int) {}

func setNonblock(int, bool) error { return errUnsupported }

func sendRights(int, []byte, []int) (int, error) { return 0, errUnsupported }

func isStream(int) bool { return false }

func checkConnection(int) error { return errUnsupported } // nothing can have arrived

type receiver struct{}

func (*receiver) recv(int, []byte) (Received, error) { return Received{}, errUnsupported }
