package sock

import "golang.org/x/sys/unix"

func shutdownListener(listener int) error {
	return opError("close", shutdown(listener, unix.SHUT_RDWR))
}
