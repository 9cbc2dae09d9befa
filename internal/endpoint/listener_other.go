//go:build unix && !linux

package endpoint

import "net"

// listenerPID is always 0: the pid of a listener is informational and not worth
// a system call of its own here.
func listenerPID(*net.UnixConn) int { return 0 }
