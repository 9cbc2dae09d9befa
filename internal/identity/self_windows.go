package identity

import (
	"fmt"
	"os"

	"golang.org/x/sys/windows/registry"
)

// readBootID falls back to a value that is stable in this process and equal to
// that of no other (spec 03 §8).
func readBootID() (string, error) {
	const path = `SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters`
	unavailable := fmt.Sprintf("windows-boot-unavailable-%d-%d", os.Getpid(), startedAt.UnixNano())
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, path, registry.QUERY_VALUE)
	if err != nil {
		return unavailable, nil
	}
	defer key.Close()
	id, _, err := key.GetIntegerValue("BootId")
	if err != nil {
		return unavailable, nil
	}
	return fmt.Sprintf("windows-boot-%d", id), nil
}

func ownImageFile(path string) string { return path }
