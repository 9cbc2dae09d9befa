//go:build unix || windows

package launch

import (
	"os"
	"os/signal"
	"syscall"
)

// Endings are the signals that end a program in order: SIGTERM, and those of a terminal,
// unless whoever started this process has it ignore them, as nohup does.
func Endings() []os.Signal {
	signals := []os.Signal{syscall.SIGTERM} // never none: that would mean all
	for _, s := range []os.Signal{os.Interrupt, Hangup} {
		if !signal.Ignored(s) {
			signals = append(signals, s)
		}
	}
	return signals
}
