package usage

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// Memory returns how many bytes of memory a process has resident; 0 when that can't
// be told.
func Memory(pid int) uint64 {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	fields := bytes.Fields(statm)
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(string(fields[1]), 10, 64)
	return pages * uint64(os.Getpagesize())
}
