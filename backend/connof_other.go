//go:build !unix

package backend

import (
	"errors"
	"fmt"
	"net"
)

func connOf(int) (*net.UnixConn, error) {
	return nil, fmt.Errorf("handed-over connection: %w on this system", errors.ErrUnsupported)
}
