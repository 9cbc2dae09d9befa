//go:build unix && !linux && !darwin

package endpoint

import (
	"os"
	"strconv"
)

// userHashInput is not in the specification, which names no machine's identity for the
// BSDs: it is what the kernel has for one, else the name of the host.
func userHashInput() (string, error) {
	machine := hostUUID()
	if machine == "" {
		name, err := os.Hostname()
		if err != nil {
			return "", err
		}
		machine = "host:" + name
	}
	return strconv.Itoa(os.Getuid()) + ":" + machine, nil
}
