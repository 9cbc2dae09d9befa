package endpoint

import (
	"os"
	"strconv"
)

var machineID once

// userHashInput uses the real uid, which a set-uid program does not change.
func userHashInput() (string, error) {
	id, err := machineID.get(func() (string, error) { return linuxMachineID(os.ReadFile) })
	if err != nil {
		return "", err
	}
	return strconv.Itoa(os.Getuid()) + ":" + id, nil
}
