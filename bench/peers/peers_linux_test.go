package main

import (
	"context"
	"errors"
	"fmt"
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

func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{{"--rounds", "0"}, {"--only", "nobody"}, {"surplus"}, {"role", "nobody"}} {
		ctx, cancel := context.WithCancel(t.Context())
		if err := run(ctx, args); err == nil {
			t.Errorf("%q is no mistake", args)
		}
		cancel()
	}
}
