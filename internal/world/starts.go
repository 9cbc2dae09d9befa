package world

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Brokers and daemons of a one-binary tool are started by its own processes, and may have
// ended before anybody looks. So each notes its start in a file of the state directory.

func startsFile(stateDir, tool string) string { return filepath.Join(stateDir, tool+".started") }

// CountStarts begins to count the starts of the tool's brokers and daemons. Those from
// before are forgotten.
func (w *World) CountStarts(tool string) error {
	return os.WriteFile(startsFile(w.Dir, tool), nil, 0o600)
}

// NoteStart notes that this process was started in a role of the tool. It is false where
// no World counts the tool's starts.
func NoteStart(tool, role string) bool {
	f, err := os.OpenFile(startsFile(os.Getenv(stateVariable), tool), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return false
	}
	_, err = fmt.Fprintln(f, role, os.Getpid())
	_ = f.Close()
	return err == nil
}

// Started are the processes that noted that they were started in the role.
func (w *World) Started(tool, role string) (pids []int) {
	text, _ := os.ReadFile(startsFile(w.Dir, tool)) // without one, nobody has
	for line := range strings.Lines(string(text)) {
		var who string
		var pid int
		if _, err := fmt.Sscan(line, &who, &pid); err == nil && who == role {
			pids = append(pids, pid)
		}
	}
	return pids
}
