//go:build !unix

package usage

// Limit is false: this system has no such limit.
func Limit() (int, bool) { return 0, false }
