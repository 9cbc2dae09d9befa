//go:build unix && !linux

package sock

// shutdownListener does nothing: a socket that listens can't be shut down on these systems,
// and on FreeBSD the attempt costs the next accept. Whoever finds the socket's name still
// is queued until it is closed.
func shutdownListener(int) error { return nil }
