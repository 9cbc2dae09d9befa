//go:build unix && (!linux || usher_portable)

package endpoint

import "syscall"

// refuseDescriptors does nothing: these systems can't refuse them.
func refuseDescriptors(string, string, syscall.RawConn) error { return nil }

// Lacks names what Linux has for this package and this system has not, for people.
func Lacks() []string {
	return []string{"refusing descriptors that are sent unasked (they are closed)"}
}
