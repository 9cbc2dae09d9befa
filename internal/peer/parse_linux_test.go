package peer

import (
	"strconv"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	line := func(name, state string, threads int, start string) string {
		return "42 (" + name + ") " + state + strings.Repeat(" 0", 16) + " " + strconv.Itoa(threads) + " 0 " + start + " 0 0\n"
	}
	for _, c := range []struct {
		line  string
		ended bool
		start uint64
		ok    bool
	}{
		{line("sleep", "S", 1, "77"), false, 77, true},
		{line("a) Z 1 (b", "R", 1, "77"), false, 77, true},
		{line("", "Z", 1, "77"), true, 77, true},
		{line("leader", "Z", 3, "77"), false, 77, true}, // the other threads live on
		{line("x", "X", 1, "77"), true, 77, true},
		{line("x", "S", 1, "-7"), false, 0, false},
		{"42 (cut) S 0 0", false, 0, false},
		{"", false, 0, false},
	} {
		got, err := parseStat([]byte(c.line))
		if (err == nil) != c.ok || got != (processStat{c.ended, c.start}) && c.ok {
			t.Errorf("%q: %+v, %v", c.line, got, err)
		}
	}
}
