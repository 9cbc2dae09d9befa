package peer

import (
	"bytes"
	"fmt"
	"strconv"
)

// processStat is what a stat file says.
type processStat struct {
	ended bool
	start uint64
}

// parseStat reads "PID (NAME) STATE ...", where NAME may hold anything. A zombie
// has ended, unless other threads of it live on.
func parseStat(line []byte) (processStat, error) {
	const state, threads, start = 0, 17, 19 // behind NAME; 3, 20 and 22 in proc(5)
	_, rest, _ := bytes.Cut(line[max(0, bytes.LastIndexByte(line, ')')):], []byte(" "))
	fields := bytes.Fields(rest)
	if len(fields) <= start {
		return processStat{}, fmt.Errorf("stat file of a process: %d fields behind its name", len(fields))
	}
	began, err := strconv.ParseUint(string(fields[start]), 10, 64)
	if err != nil {
		return processStat{}, fmt.Errorf("stat file of a process: start time: %w", err)
	}
	dead := bytes.ContainsAny(fields[state], "Xx") ||
		bytes.Equal(fields[state], []byte("Z")) && (string(fields[threads]) == "1" || string(fields[threads]) == "0")
	return processStat{ended: dead, start: began}, nil
}
