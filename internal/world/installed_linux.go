package world

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Installed is a one-binary tool as somebody has it: its file, and the directories of its
// user. Brokers and daemons of it start themselves; they are known by the file that they
// run.
type Installed struct {
	// Dir holds all of it. It is short enough for the names of sockets in it.
	Dir string
	// Bin is the tool's file, in Dir.
	Bin string
	// Env is the environment of a call. The user's own settings are not in it.
	Env []string
}

// Install puts a copy of executable into directories of its own. The caller closes it.
func Install(executable string) (*Installed, error) {
	dir, err := privateDir()
	if err != nil {
		return nil, fmt.Errorf("private directory: %w", err)
	}
	i := &Installed{Dir: dir, Bin: filepath.Join(dir, "tool")}
	i.Env = append(foreignEnvironment(),
		"HOME="+dir,
		"XDG_RUNTIME_DIR="+dir,
		"XDG_CONFIG_HOME="+dir,
		"XDG_STATE_HOME="+dir,
	)
	if err := i.Replace(executable, ""); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return i, nil
}

// Replace puts executable in the tool's place, as PlaceExecutable does.
func (i *Installed) Replace(executable, mark string) error {
	return PlaceExecutable(i.Bin, executable, mark)
}

// Processes are the tool's brokers and daemons that live: what runs a file in Dir, and has
// a session of its own.
func (i *Installed) Processes() (pids []int, err error) {
	all, err := os.ReadDir("/proc")
	for _, entry := range all {
		pid, notPID := strconv.Atoi(entry.Name())
		if notPID != nil {
			continue
		}
		path, _ := os.Readlink("/proc/" + entry.Name() + "/exe") // of a process that has ended, or another user's, there is none
		if !strings.HasPrefix(path, i.Dir+"/") {
			continue
		}
		stat, ended := readStat(pid)
		if ended == nil && stat[statSession] == entry.Name() && stat[statState] != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// Sockets are the names that are left in the runtime directory.
func (i *Installed) Sockets() ([]string, error) {
	return filepath.Glob(filepath.Join(i.Dir, "running-process", "broker", "*.sock"))
}

// Logs is what brokers and daemons have written, for errors.
func (i *Installed) Logs() string {
	paths, _ := filepath.Glob(filepath.Join(i.Dir, "running-process", "*", "*.log"))
	var all strings.Builder
	for _, path := range paths {
		text, _ := os.ReadFile(path) // one that can't be read says nothing
		fmt.Fprintf(&all, "%s:\n%s\n", path, text)
	}
	return all.String()
}

// End asks all brokers and daemons to end, frozen ones too, and ends those that do not.
func (i *Installed) End(ctx context.Context) error {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		patience, cancel := context.WithTimeout(ctx, stopTimeout)
		err := Until(patience, "brokers and daemons have ended", func() (bool, error) {
			pids, err := i.Processes() // again and again: a daemon may have been about to start
			for _, pid := range pids {
				_ = syscall.Kill(pid, sig)
				_ = syscall.Kill(pid, syscall.SIGCONT)
			}
			return len(pids) == 0, err
		})
		cancel()
		if err == nil || sig == syscall.SIGKILL {
			return err
		}
	}
	return nil
}

// Close is End, and removes Dir.
func (i *Installed) Close() error {
	return errors.Join(i.End(context.Background()), os.RemoveAll(i.Dir))
}

// Memory is what processes occupy, in bytes: what several share counts once (PSS), and
// what each has resident (RSS), where it counts in every one.
func Memory(pids ...int) (shared, resident int64, err error) {
	for _, pid := range pids {
		pss, err := kib(pid, "smaps_rollup", "Pss")
		if err != nil {
			return 0, 0, err
		}
		rss, err := kib(pid, "smaps_rollup", "Rss")
		if err != nil {
			return 0, 0, err
		}
		shared, resident = shared+pss, resident+rss
	}
	return shared, resident, nil
}
