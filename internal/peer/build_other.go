//go:build (unix && !darwin && (!linux || usher_portable)) || windows

package peer

// checkBuild is nil: the kernel has no path for what is not there any more.
func checkBuild(int, string) error { return nil }
