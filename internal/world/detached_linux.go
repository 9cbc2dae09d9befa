package world

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// AdoptOrphans makes processes that outlive their parents this one's children, from now on:
// nobody else may be there to reap them.
func AdoptOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// EndDetached ends the processes that were started by processes of the World, as brokers
// and daemons are, and have its runtime directory. It reaps those, and others, that have
// become children of this process. None may be starting meanwhile.
func (w *World) EndDetached(others ...int) error {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		// One may have started another when it was told to end; there is no third.
		for range 2 {
			pids, err := w.endDetached(sig)
			others = append(others, pids...)
			if err != nil {
				return err
			}
		}
	}
	for _, pid := range others {
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // where it is a child of this process
	}
	if left, _ := w.endDetached(0); len(left) > 0 {
		return fmt.Errorf("processes %v do not end", left)
	}
	return nil
}

// endDetached sends sig to all of them and waits for their end.
func (w *World) endDetached(sig unix.Signal) (pids []int, err error) {
	names, _ := filepath.Glob("/proc/[0-9]*") // the pattern is sound
	by := time.Now().Add(stopTimeout)
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil || !w.detached(pid) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		} else if err != nil {
			return pids, fmt.Errorf("end process %d: %w", pid, err)
		}
		defer unix.Close(fd)
		if !w.detached(pid) { // the number is another's by now
			continue
		}
		pids = append(pids, pid)
		if unix.PidfdSendSignal(fd, sig, nil, 0) == nil && sig != 0 {
			defer awaitEnd(fd, by)
		}
	}
	return pids, nil
}

// detached reports whether the process is of this World, and was not started by it.
func (w *World) detached(pid int) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil || !bytes.Contains(env, []byte("XDG_RUNTIME_DIR="+w.Dir+"\x00")) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return !slices.ContainsFunc(w.all, func(p *Process) bool { return p.PID() == pid })
}

// awaitEnd waits for the end of a pidfd's process.
func awaitEnd(fd int, by time.Time) {
	for left := time.Until(by); left > 0; left = time.Until(by) {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
