package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/world"
)

// TestMain lets the test binary be its own child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "role" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestMeasure takes every figure of what needs no other program, and says of one
// that is missing that it is; afterwards nothing runs any more.
func TestMeasure(t *testing.T) {
	testutil.Leaks(t)
	missing := stack{name: "missing", start: func(*site) ([]*world.Process, error) {
		_, err := find("no-such-program")
		return nil, err
	}}
	defer func(kept []stack) { stacks = kept }(stacks)
	stacks = append(stacks[:3:3], missing)
	s, err := newSite(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows, err := s.measure(t.Context(), 15, nil, func(string) {})
	var groups []int
	for _, p := range s.all {
		groups = append(groups, p.PID())
	}
	s.close()
	if err != nil || len(rows) != 4 || len(groups) != 2 {
		t.Fatalf("%d rows, %d children, %v", len(rows), len(groups), err)
	}
	for _, r := range rows[:3] {
		if r.Reason != "" || *r.FirstP50 <= 0 || *r.FirstP90 < *r.FirstP50 || *r.Trip <= 0 || *r.Throughput <= 0 || *r.CPU <= 0 || (r.Memory == nil) != (r.Name == "direct") {
			t.Errorf("%+v", r)
		}
	}
	if !strings.Contains(rows[3].Reason, "install.sh") || rows[3].FirstP50 != nil {
		t.Errorf("%+v", rows[3])
	}
	var text, asJSON strings.Builder
	if err := errors.Join(writeText(&text, rows), writeJSON(&asJSON, rows)); err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if !strings.Contains(text.String(), r.Name) || !strings.Contains(asJSON.String(), fmt.Sprintf("%q", r.Name)) {
			t.Errorf("%s is not shown", r.Name)
		}
	}
	for _, pid := range groups {
		if err := syscall.Kill(-pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("group %d: %v", pid, err)
		}
	}
	if _, err := os.Stat(s.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("the directory is still there")
	}
}

// TestMeasureModes takes every figure of usher's modes, whatever else is installed: what is
// not has a line that says so.
func TestMeasureModes(t *testing.T) {
	testutil.Leaks(t)
	s, err := newSite(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows, err := s.measureModes(t.Context(), 3, nil, func(string) {})
	var groups []int
	for _, p := range s.all {
		groups = append(groups, p.PID())
	}
	s.close()
	if err != nil || len(rows) != 13 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	best := map[string]int{}
	for _, r := range rows {
		if r.Reason != "" {
			if r.Name == "usher" || !strings.Contains(r.Reason, "install.sh") || r.First != nil {
				t.Errorf("%+v", r)
			}
			continue
		}
		for _, f := range []*figure{r.First, r.Trip, r.Throughput, r.CPU} {
			if f.Ratio < 1 {
				t.Errorf("%s, %s: %+v is better than the best", r.Mode, r.Name, f)
			}
		}
		if r.First.Value <= 0 || r.Trip.Value <= 0 || r.Throughput.Value <= 0 {
			t.Errorf("%+v", r)
		}
		if r.First.Ratio == 1 {
			best[r.Mode]++
		}
	}
	if len(best) != 4 {
		t.Errorf("the best of each mode: %v", best)
	}
	var text strings.Builder
	if err := writeModesText(&text, rows); err != nil || strings.Count(text.String(), "usher") != 4 {
		t.Errorf("%s, %v", text.String(), err)
	}
	for _, pid := range groups {
		if err := syscall.Kill(-pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("group %d: %v", pid, err)
		}
	}
}

// TestCompare: how many times worse than the best, of rounds that both had.
func TestCompare(t *testing.T) {
	of := func(factor float64) *entry {
		e := new(entry)
		for round := range 20 { // each of its own speed, which the ratio is not to show
			e.samples = append(e.samples, sample{first: []float64{factor * float64(round+1)}})
		}
		return e
	}
	quick, slow := of(2), of(3)
	mean := func(samples []sample) (sum float64) {
		for _, t := range samples {
			sum += t.first[0] / float64(len(samples))
		}
		return sum
	}
	f := compare(slow, []*entry{slow, quick}, mean)
	if math.Abs(f.Value-31.5) > 1e-9 || math.Abs(f.Ratio-1.5) > 1e-9 || f.Low < 1.49 || f.High > 1.51 {
		t.Errorf("%+v", f)
	}
	if f := compare(quick, []*entry{slow, quick}, mean); f.Ratio != 1 || f.Low != 1 || f.High != 1 {
		t.Errorf("%+v", f)
	}
}

func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{{"--rounds", "0"}, {"--only", "nobody"}, {"surplus"}, {"role", "nobody"}, {"modes", "--rounds", "501"}, {"modes", "surplus"}, {"modes", "--only", "nobody"}} {
		ctx, cancel := context.WithCancel(t.Context())
		if err := run(ctx, args); err == nil {
			t.Errorf("%q is no mistake", args)
		}
		cancel()
	}
}
