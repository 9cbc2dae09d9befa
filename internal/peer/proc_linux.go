package peer

import (
	"errors"
	"os"
	"strconv"
	"sync"
)

// procIsOurs is nil where the numbers in /proc are those that this process knows others
// by. They are not in a pid namespace that has kept the /proc of the one around it.
var procIsOurs = sync.OnceValue(func() error {
	self, err := os.Readlink("/proc/self")
	if err == nil && self != strconv.Itoa(os.Getpid()) {
		err = errors.New("/proc is that of another pid namespace: mount one of this namespace's own")
	}
	return err
})
