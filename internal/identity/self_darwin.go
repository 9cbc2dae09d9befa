package identity

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func readBootID() (string, error) {
	tv, err := unix.SysctlTimeval("kern.boottime")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return fmt.Sprintf("macos-boot-%d-%d", tv.Sec, tv.Usec), nil
}

func ownImageFile(path string) string { return path }
