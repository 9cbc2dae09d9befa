//go:build !unix

package nofile

// Limit is false: this system has no such limit.
func Limit() (int, bool) { return 0, false }
