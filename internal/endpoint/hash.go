package endpoint

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/seed-7265657e/usher/internal/blake3"
)

// HashInput returns the lowercase hex of the first 8 bytes of BLAKE3 over input:
// the 16 characters that tell users and machines apart in socket names (spec 03 §1).
func HashInput(input string) string {
	sum := blake3.Sum256([]byte(input))
	return hex.EncodeToString(sum[:8])
}

// UserHash returns the hash of the calling user on this machine. It reads the
// machine's identity once per process; a failed read is tried again next time.
func UserHash() (string, error) {
	input, err := userHashInput()
	if err != nil {
		return "", fmt.Errorf("user hash for socket names: %w", err)
	}
	return HashInput(input), nil
}

// linuxMachineID picks the machine part of the Linux hash input. An empty or
// missing file falls through to the next source; a file that exists but can't be
// read is an error, because the two peers could otherwise disagree on the name.
func linuxMachineID(read func(path string) ([]byte, error)) (string, error) {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		b, err := read(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("machine id is unreadable (make the file readable or remove it): %w", err)
		}
		if id := strings.TrimSpace(string(b)); id != "" {
			return id, nil
		}
	}
	b, err := read("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("no machine id and no boot id (create /etc/machine-id): %w", err)
	}
	return "boot:" + strings.TrimSpace(string(b)), nil
}

// macPlatformUUID finds IOPlatformUUID in the output of ioreg.
func macPlatformUUID(ioreg string) (string, error) {
	for line := range strings.Lines(ioreg) {
		key, value, ok := strings.Cut(line, "=")
		if !ok || !strings.Contains(key, `"IOPlatformUUID"`) {
			continue
		}
		if uuid := strings.Trim(strings.TrimSpace(value), `"`); uuid != "" {
			return uuid, nil
		}
	}
	return "", errors.New("ioreg shows no IOPlatformUUID")
}

// windowsHashInput builds the Windows hash input from the raw bytes of a SID.
func windowsHashInput(sid []byte) string {
	return "windows-sid:" + hex.EncodeToString(sid)
}
