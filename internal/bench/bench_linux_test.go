package bench_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/bench"
	"github.com/seed-7265657e/usher/internal/cli"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestMain is the program that the benchmark starts in its roles.
func TestMain(m *testing.M) {
	bench.ToolMain()
	if len(os.Args) > 1 && os.Args[1] == "bench-role" {
		os.Exit(cli.Main())
	}
	os.Exit(m.Run())
}

func program(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestHandoff measures everything with few samples: every figure is there or says
// why not.
func TestHandoff(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 20 s")
	}
	testutil.Leaks(t)
	r, err := bench.Handoff(t.Context(), bench.Options{Program: program(t), Quick: true})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var figures map[string]json.RawMessage
	if err := json.Unmarshal(text, &figures); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"ratio_reconnect_p50", "ratio_reconnect_p99", "ratio_reconnect_cold_p50", "ratio_reconnect_plain_p50", "ratio_cfloor_p50",
		"ratio_cfloor_onecpu_p50", "load_ratio_cfloor", "broker_cpu_ratio_cfloor", "data_rtt_ratio", "data_throughput_ratio",
		"token_scale_ratio", "rss_delta_bytes",
	} {
		value, present := figures[key]
		if null := string(value) == "null"; !present || null != (r.Reasons[key] != "") {
			t.Errorf("%s is %s, reason %q", key, value, r.Reasons[key])
		}
	}
	if r.RatioReconnectP99 != nil {
		t.Error("400 samples made a P99")
	}
	if err := r.Write(io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Settings[0].Series {
		if !slices.IsSorted(s.Quantiles) || len(s.Quantiles) < 100 {
			t.Errorf("%s, %s: quantiles %v", s.Stack, s.Arm, s.Quantiles)
		}
	}
}

// TestSystemCalls pins what one handoff costs in system calls (docs/performance.md).
func TestSystemCalls(t *testing.T) {
	testutil.Needs(t, "the system calls that are counted here")
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("no strace")
	}
	testutil.Leaks(t)
	const n = 2000
	calls, err := bench.SystemCalls(t.Context(), program(t), n)
	if err != nil {
		t.Fatal(err)
	}
	for who, limits := range map[string]map[string]float64{
		// Under strace a Hello may come after its connection, which costs one more
		// read and two changes of the set; beginnings and ends are in the counts.
		"broker": {
			"accept4": 1, "eventfd2": 0, "sendmsg": 1, "recvmsg": 0, "close": 1, "recvfrom": 3,
			// Of the watch, which has nothing to tell; and once more when something has
			// happened beside what is watched, as other tests have it.
			"read": 2,
			// Many at the beginning: the definition is too young to be remembered.
			"newfstatat": 1, "inotify_add_watch": 0,
			"epoll_ctl": 2, "epoll_pwait": 10, "write": 0, "futex": 1, "openat": 0, "fstat": 0,
		},
		"backend": {
			"recvmsg": 1, "sendmsg": 1, "preadv2": 0, "close": 1, "recvfrom": 2, "shutdown": 1, "epoll_ctl": 2, "fstat": 0,
			"fcntl": 0, "epoll_pwait": 10, "read": 0, "write": 0, "futex": 1, "openat": 0, "accept4": 0,
		},
	} {
		for call, most := range limits {
			const about = 0.5
			if per := float64(calls[who][call]) / n; per > most+about {
				t.Errorf("%s makes %.2f %s per handoff, want at most %.0f", who, per, call, most)
			}
		}
		if calls[who]["sendmsg"] < n {
			t.Errorf("%s made %d sendmsg for %d handoffs: nothing was counted", who, calls[who]["sendmsg"], n)
		}
	}
}

// TestProcess builds both clients and runs them in turns.
func TestProcess(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no Go toolchain")
	}
	testutil.Leaks(t)
	f, err := bench.Process(t.Context(), bench.Options{Program: program(t), Quick: true})
	if err != nil {
		t.Fatal(err)
	}
	if f.ProcessRatio.Low > f.ProcessRatio.Value || f.ProcessRatio.Value > f.ProcessRatio.High || f.ProcessRatio.Low <= 0 {
		t.Errorf("process ratio %v", f.ProcessRatio)
	}
	// Sizes don't depend on the machine's load: this is the goal itself.
	if f.BinaryRatio < 1 || f.BinaryRatio > 1.4 {
		t.Errorf("the SDK's client is %.2f times as large as the other", f.BinaryRatio)
	}
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil || keys["process_ratio"] == nil || keys["binary_ratio"] == nil {
		t.Errorf("%s: %v", text, err)
	}
	if err := f.Write(io.Discard); err != nil {
		t.Error(err)
	}
}

// TestProcessWithoutToolchain says what is missing.
func TestProcessWithoutToolchain(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := bench.Process(t.Context(), bench.Options{Program: program(t), Quick: true})
	if err == nil || !errors.Is(err, exec.ErrNotFound) || !strings.Contains(err.Error(), "put a Go toolchain on PATH") {
		t.Errorf("got %v", err)
	}
}

// TestCold: the figures are there, of both kinds of daemon; one broker and one daemon were
// started for all who called at once, and nothing is left behind.
func TestCold(t *testing.T) {
	testutil.Leaks(t)
	f, err := bench.Cold(t.Context(), bench.Options{Program: program(t)}, bench.ColdOptions{Clients: 8, Rounds: 2, Startup: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*bench.ColdCosts{&f.ColdCosts, f.AtOnce} {
		if c.BrokersStarted != 2 || c.DaemonsStarted != 2 || c.Failures != 0 {
			t.Errorf("%d brokers, %d daemons, %d failures: %s", c.BrokersStarted, c.DaemonsStarted, c.Failures, c.FirstReason)
		}
		if c.SharedRatio <= 0 || c.FirstAnswerRatio <= 0 {
			t.Errorf("ratios %g and %g", c.SharedRatio, c.FirstAnswerRatio)
		}
	}
	if f.DaemonMS < f.StartupMS || f.AloneMS < f.StartupMS || f.AtOnce.StartupMS != 0 {
		t.Errorf("the daemon that works for %g ms took %g, its client %g", f.StartupMS, f.DaemonMS, f.AloneMS)
	}
	hasKeys(t, f, "clients", "rounds", "brokers_started", "daemons_started", "failures", "shared_ratio", "first_answer_ratio")
	if err := f.Write(io.Discard); err != nil {
		t.Error(err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("process %d is left: %v", pid, err)
	}
}

// TestIdle: the figures are there.
func TestIdle(t *testing.T) {
	testutil.Needs(t, "watches")
	testutil.Leaks(t)
	f, err := bench.Idle(t.Context(), bench.Options{Program: program(t)}, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	hasKeys(t, f, "broker_wakeups_20s", "backend_wakeups_20s", "backend_alone_wakeups_20s")
	if f.Broker < 0 || f.Backend < 0 || f.BackendAlone < 0 {
		t.Errorf("figures %+v", f)
	}
	if err := f.Write(io.Discard); err != nil {
		t.Error(err)
	}
}

func hasKeys(t *testing.T, figures any, want ...string) {
	t.Helper()
	text, err := json.Marshal(figures)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	for _, key := range want {
		if keys[key] == nil {
			t.Errorf("no %s in %s", key, text)
		}
	}
}
