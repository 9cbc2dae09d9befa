//go:build freebsd || openbsd || netbsd || dragonfly

package identity

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// readBootID is named after macOS' (spec 03 §8); the specification has none for the BSDs.
func readBootID() (string, error) {
	tv, err := unix.SysctlTimeval("kern.boottime")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return fmt.Sprintf("bsd-boot-%d", tv.Sec), nil
}

func ownImageFile(path string) string { return path }
