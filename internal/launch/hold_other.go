//go:build !linux || usher_portable

package launch

import (
	"os"
	"os/exec"
)

// mayHold is false: programs are not held on this system.
func mayHold(*os.File) bool { return false }

// startHeld is not called on this system.
func startHeld(cmd *exec.Cmd, _ func() error) error { return cmd.Start() }
