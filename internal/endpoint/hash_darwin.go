package endpoint

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// ioregTimeout bounds the helper program; it normally answers in milliseconds.
const ioregTimeout = 5 * time.Second

var platformUUID once

func userHashInput() (string, error) {
	uuid, err := platformUUID.get(readPlatformUUID)
	if err != nil {
		return "", err
	}
	return strconv.Itoa(os.Getuid()) + ":" + uuid, nil
}

func readPlatformUUID() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), ioregTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "/usr/sbin/ioreg", "-d2", "-c", "IOPlatformExpertDevice").Output()
	if err != nil {
		return "", fmt.Errorf("platform UUID from ioreg: %w", err)
	}
	return macPlatformUUID(string(out))
}
