//go:build linux || darwin

package usage

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Descriptors returns how much of its room for descriptors this process uses,
// from 0 to 1.
func Descriptors() float64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Cur == 0 {
		return 0
	}
	open, err := os.ReadDir("/dev/fd")
	switch {
	case errors.Is(err, unix.EMFILE):
		return 1
	case err != nil:
		return 0
	}
	return min(1, float64(len(open)-1)/float64(limit.Cur)) // without that of the directory
}
