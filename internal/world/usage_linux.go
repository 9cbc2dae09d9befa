package world

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPUTime is the processor time of a process so far, of ended threads too.
func CPUTime(pid int) (time.Duration, error) {
	const perProcessClock = 2 // of all its threads, scheduled time
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|perProcessClock), &ts); err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// GroupCPU is the processor time that foreign processes, and those they started,
// have had, in groups of their own too.
func GroupCPU(leaders ...*Process) (sum time.Duration, err error) {
	const tick = 10 * time.Millisecond // of the times of ended children
	err = eachMember(leaders, func(pid int, stat []string) error {
		for _, field := range []int{statCUTime, statCSTime} {
			ended, err := strconv.ParseInt(stat[field], 10, 64)
			if err != nil {
				return err
			}
			sum += time.Duration(ended) * tick
		}
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			return err
		}
		for _, name := range threads {
			b, err := os.ReadFile(name)
			if err != nil {
				continue // it has ended
			}
			var ns int64
			if _, err := fmt.Sscan(string(b), &ns); err != nil {
				return err
			}
			sum += time.Duration(ns)
		}
		return nil
	})
	return sum, err
}

// GroupMemory is what foreign processes, and those they started, occupy: what
// several share counts once (PSS), in bytes.
func GroupMemory(leaders ...*Process) (sum int64, err error) {
	err = eachMember(leaders, func(pid int, _ []string) error {
		n, err := kib(pid, "smaps_rollup", "Pss")
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			return nil // it has ended
		}
		sum += n
		return err
	})
	return sum, err
}

// eachMember calls f for every process of the groups, and for the leaders' children, which
// a broker gives groups of their own.
func eachMember(leaders []*Process, f func(pid int, stat []string) error) error {
	names, err := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		pid, notPID := strconv.Atoi(filepath.Base(name))
		if notPID != nil {
			continue
		}
		stat, ended := readStat(pid)
		if ended != nil || !slices.ContainsFunc(leaders, func(p *Process) bool {
			leader := strconv.Itoa(p.PID())
			return stat[statGroup] == leader || stat[statParent] == leader
		}) {
			continue
		}
		err = errors.Join(err, f(pid, stat))
	}
	return err
}

// Switches is how often the process' threads have been taken from a processor, because
// they waited or others had to run: so often they have been woken.
func (p *Process) Switches() (sum int64, err error) {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.PID()))
	if err != nil {
		return 0, fmt.Errorf("threads of %s: %w", p.Name, err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", p.PID(), thread.Name()))
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(text)) {
			name, figure, _ := strings.Cut(line, ":")
			if !strings.HasSuffix(name, "voluntary_ctxt_switches") {
				continue
			}
			n, err := strconv.ParseInt(strings.TrimSpace(figure), 10, 64)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}
