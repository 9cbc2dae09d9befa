//go:build !windows

package bench

import "net"

// dialPlainly is what a client does that knows nothing of usher.
func dialPlainly(pipe string) (net.Conn, error) { return net.Dial("unix", pipe) }
