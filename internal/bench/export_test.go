package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/seed-7265657e/usher/bench/cfloor"
	"github.com/seed-7265657e/usher/internal/world"
)

// SystemCalls hands n connections over with usher's processes under strace, and
// returns how often broker and backend made which call.
func SystemCalls(ctx context.Context, program string, n int) (calls map[string]map[string]int, err error) {
	s, err := newSite(ctx, program, cfloor.Page)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	trace := func(who string) string { return s.Path(who + ".trace") }
	s.tracer = func(who string) []string { return []string{"strace", "-f", "-c", "-o", trace(who)} }
	t := target{s.Path("i.sock"), s.Path("ip.sock")}
	var all []*world.Process
	for _, role := range [][]string{{"broker"}, {"backend", "--inline", "--pipe", t.Pipe}, {"client"}} {
		p, err := s.start(ctx, t.Socket, role[0], role[1:]...)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	r := rounds{Targets: []target{t}, Arms: []string{handedOver}, Pairs: n}
	err = all[2].Ask(ctx, order{Rounds: &r}, &result{})
	for i := len(all) - 1; i >= 0; i-- {
		err = errors.Join(err, all[i].Quit())
	}
	if err != nil {
		return nil, err
	}
	calls = make(map[string]map[string]int)
	for _, who := range []string{"broker", "backend"} {
		if calls[who], err = readCounts(trace(who)); err != nil {
			return nil, err
		}
	}
	return calls, nil
}

// readCounts reads the table of strace -c: share, seconds, µs, calls, errors or
// nothing, name.
func readCounts(path string) (map[string]int, error) {
	table, err := os.ReadFile(path)
	counts := make(map[string]int)
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		var n int
		if len(fields) >= 5 {
			if _, err := fmt.Sscan(fields[3], &n); err == nil {
				counts[fields[len(fields)-1]] = n
			}
		}
	}
	return counts, err
}
