//go:build !windows

package world

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Descriptors counts what the process has open.
func (p *Process) Descriptors() (int, error) {
	n, err := Descriptors(p.PID())
	if err != nil {
		return 0, fmt.Errorf("descriptors of %s: %w", p.Name, err)
	}
	return n, nil
}

// Descriptors counts what a process has open that another one has started.
func Descriptors(pid int) (int, error) {
	open, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	return len(open), err
}

// Holds is what a process has open.
func Holds(pid int) (h Held, err error) {
	h.Descriptors, err = Descriptors(pid)
	return h, err
}

// AwaitFrozen waits until the process has stopped.
func (p *Process) AwaitFrozen(ctx context.Context) error {
	return Until(ctx, p.Name+" stopped", func() (bool, error) {
		stat, err := readStat(p.PID())
		if err != nil {
			return false, err
		}
		return stat[statState] == "T", nil
	})
}

// Ended reports whether the process is no more, or a zombie.
func Ended(pid int) bool {
	stat, err := readStat(pid)
	return err != nil || stat[statState] == "Z"
}

// ResidentSet is what the process has in memory, in bytes.
func (p *Process) ResidentSet() (int64, error) { return kib(p.PID(), "status", "VmRSS") }

// kib finds a figure in kB in a file of /proc/PID, and returns it in bytes.
func kib(pid int, file, name string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if figure, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(figure), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("the system says nothing of %s", name)
}

// Fields of /proc/PID/stat behind the name of the program.
const (
	statState   = 0
	statParent  = 1
	statGroup   = 2
	statSession = 3
	statCUTime  = 13
	statCSTime  = 14
	statFields  = 15
)

func readStat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < statFields {
		return nil, fmt.Errorf("the system says too little of process %d", pid)
	}
	return fields, nil
}
