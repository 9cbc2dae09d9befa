//go:build !linux

package launch

import "os"

// hasCapabilities is false: files have none on this system.
func hasCapabilities(*os.File) bool { return false }
