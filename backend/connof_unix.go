//go:build unix

package backend

import (
	"fmt"
	"net"
	"os"
)

// connOf makes a connection of fd, which it owns from then on, also when it
// fails.
func connOf(fd int) (*net.UnixConn, error) {
	file := os.NewFile(uintptr(fd), "handed-over connection")
	defer func() { _ = file.Close() }() // net.FileConn works on a copy
	c, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("handed-over connection: %w", err)
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("handed-over connection: %T is no Unix connection", c)
	}
	return conn, nil
}
