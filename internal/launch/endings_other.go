//go:build !unix && !windows

package launch

import (
	"os"
	"syscall"
)

// Endings is SIGTERM, though nothing sends it here; none would mean all.
func Endings() []os.Signal { return []os.Signal{syscall.SIGTERM} }
