//go:build unix && (!linux || usher_portable)

package endpoint

import "syscall"

// refuseDescriptors does nothing: these systems can't refuse them.
func refuseDescriptors(string, string, syscall.RawConn) error { return nil }
