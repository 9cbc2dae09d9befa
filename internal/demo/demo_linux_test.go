package demo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7265657e/usher/internal/demo"
	"github.com/seed-7265657e/usher/internal/testutil"
)

var (
	wantScenarios = []string{
		"one-binary", "replaced-build", "handed-over", "reconnect", "keep-alive", "frozen-backend", "killed-backend",
		"killed-after-adopting", "broker-restart", "broker-upgrade", "no-leaks",
	}
	wantSteps = []string{
		"backend acked", "backend checked", "backend claimed", "backend received", "backend replied",
		"broker accept", "broker acknowledge", "broker hello", "broker issue", "broker resolve", "broker send",
		"client answer", "client dial", "client ready", "client request",
	}
)

// TestDemo builds usher once and plays the demo with it.
func TestDemo(t *testing.T) {
	usher := filepath.Join(t.TempDir(), "usher")
	build := exec.Command("go", "build", "-o", usher, "github.com/seed-7265657e/usher/cmd/usher")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Run("json", func(t *testing.T) { testJSON(t, usher) })
	t.Run("text", func(t *testing.T) { testText(t, usher) })
	t.Run("interrupted", func(t *testing.T) {
		for scenario, amid := range map[string]func() bool{
			"one-binary":     someProcess("(usher-demo) "), // a broker or daemon
			"frozen-backend": someProcess(fmt.Sprintf(") T %d ", os.Getpid())),
			"broker-upgrade": func() bool { return true },
		} {
			t.Run(scenario, func(t *testing.T) {
				if scenario == "one-binary" {
					testutil.Needs(t, "names of processes, by which this is found")
				}
				testInterrupted(t, usher, scenario, amid)
			})
		}
	})
}

func testJSON(t *testing.T, usher string) {
	r := play(t, usher, "--json", "--requests", "40")
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(r, &fields); err != nil {
		t.Fatalf("%v\n%s", err, r)
	}
	want := []string{
		"executed_twice", "fds_leaked", "handed_over", "lost", "reconnected", "requests", "scenarios", "timeline", "unknown",
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(fields))); diff != "" {
		t.Error(diff)
	}
	var got demo.Result
	if err := json.Unmarshal(r, &got); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range got.Scenarios {
		names = append(names, s.Name)
		if !s.OK || s.Detail == "" {
			t.Errorf("%s: %s", s.Name, s.Detail)
		}
	}
	if diff := cmp.Diff(wantScenarios, names); diff != "" {
		t.Error(diff)
	}
	checkTimeline(t, got.Timeline)
	got.Scenarios, got.Timeline = nil, nil
	// 64 and 4 of a tool; 40 handed over and 10 reconnected; 10 kept alive; 2 frozen, 1
	// killed and 1 crashed; 9 on a kept connection and 3 fresh ones around the restart; 11 on
	// a kept connection around the upgrades, and as many fresh ones as could be made meanwhile.
	figures := demo.Result{Requests: 155, HandedOver: 144, Reconnected: 10, Unknown: 1}
	fresh := got.Requests - figures.Requests
	if fresh < 8 {
		t.Errorf("%d requests during the upgrades", fresh)
	}
	figures.Requests, figures.HandedOver = figures.Requests+fresh, figures.HandedOver+fresh
	if diff := cmp.Diff(figures, got, cmp.AllowUnexported(demo.Result{})); diff != "" {
		t.Error(diff)
	}
}

func checkTimeline(t *testing.T, line []demo.Step) {
	t.Helper()
	if len(line) == 0 {
		t.Fatal("no timeline")
	}
	var steps []string
	var last int64
	for _, s := range line {
		steps = append(steps, s.Who+" "+s.Step)
		if s.AtUS < last {
			t.Errorf("%s at %d µs, the step before at %d µs", s.Step, s.AtUS, last)
		}
		last = s.AtUS
	}
	if steps[0] != "client dial" || line[0].AtUS != 0 {
		t.Errorf("it begins with %s at %d µs", steps[0], line[0].AtUS)
	}
	slices.Sort(steps)
	if diff := cmp.Diff(wantSteps, steps); diff != "" {
		t.Error(diff)
	}
}

func testText(t *testing.T, usher string) {
	text := string(play(t, usher, "--requests", "4"))
	unwrapped := strings.Join(strings.Fields(text), " ")
	for _, want := range append(wantScenarios, "1 broker and 1 daemon started, 0 failures", "0 refused, 0 failed, 0 doubled", "0 run twice, 0 lost, 0 descriptors leaked", "One handoff, in µs", "● claimed") {
		if !strings.Contains(text, want) && !strings.Contains(unwrapped, want) {
			t.Errorf("the text lacks %q", want)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Error("colours where no terminal is")
	}
	if t.Failed() {
		t.Log(text)
	}
}

// play runs usher demo and makes sure that it leaves nothing behind.
func play(t *testing.T, usher string, args ...string) []byte {
	t.Helper()
	tmp := testutil.SocketDir(t)
	cmd := exec.CommandContext(t.Context(), usher, append([]string{"demo"}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "RUNNING_PROCESS_DISABLE=1") // the user's own settings are not the demo's
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, &stdout, &stderr)
	}
	if stderr.Len() > 0 {
		t.Errorf("stderr: %s", &stderr)
	}
	empty(t, tmp)
	return stdout.Bytes()
}

// testInterrupted ends the demo amid a scenario.
func testInterrupted(t *testing.T, usher, scenario string, amid func() bool) {
	testutil.Leaks(t)
	tmp := testutil.SocketDir(t)
	t.Setenv("TMPDIR", tmp)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	begins := make(chan struct{})
	go func() {
		_, err := demo.Run(ctx, demo.Options{Program: usher, Requests: 1, Progress: func(name string) {
			if name == scenario {
				close(begins)
			}
		}})
		ended <- err
	}()
	select {
	case <-begins:
	case err := <-ended:
		t.Fatal(err)
	}
	testutil.WaitFor(t, "amid "+scenario, amid)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	empty(t, tmp)
	if _, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
		t.Errorf("child processes are left: %v", err)
	}
}

// someProcess returns a function that reports whether the system says this of a process.
func someProcess(said string) func() bool {
	return func() bool {
		names, _ := filepath.Glob("/proc/[0-9]*/stat")
		return slices.ContainsFunc(names, func(name string) bool {
			stat, _ := os.ReadFile(name)
			return strings.Contains(string(stat), said)
		})
	}
}

func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
