package launch

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// envStart is the field of /proc/PID/stat, behind the name of the program, that says where
// its environment begins (proc_pid_stat(5), field 50).
const envStart = 50 - 3

// writePID puts pid in the place that the process' environment has for it. The process is
// held, and traced by this thread.
func writePID(pid int, name string) error {
	dir := fmt.Sprintf("/proc/%d/", pid)
	environ, err := os.ReadFile(dir + "environ")
	if err != nil {
		return err
	}
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return err
	}
	place := bytes.LastIndex(append([]byte{0}, environ...), []byte("\x00"+name+"="+noPID+"\x00"))
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if place < 0 || len(fields) <= envStart {
		return fmt.Errorf("%s has no place in the environment of process %d", name, pid)
	}
	begin, err := strconv.ParseUint(string(fields[envStart]), 10, 64)
	if err != nil {
		return err
	}
	digits := make([]byte, len(noPID)) // what the id does not need are zero bytes, behind the end of the text
	copy(digits, strconv.Itoa(pid))
	if _, err := unix.PtracePokeData(pid, uintptr(begin)+uintptr(place)+uintptr(len(name+"=")), digits); err != nil {
		return fmt.Errorf("write into the environment of process %d: %w", pid, err)
	}
	return nil
}
