package identity

import (
	"fmt"
	"os"
	"strings"
)

func readBootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// ownImageFile is the running image itself, also after the file at path was
// replaced or removed.
func ownImageFile(string) string { return "/proc/self/exe" }
