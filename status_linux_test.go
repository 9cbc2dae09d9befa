package usher_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher"
	"github.com/seed-7265657e/usher/internal/adminclient"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// look is a call that asks for status or logs, or stops the tool within TOOL_PATIENCE.
func look(ctx context.Context, what string) error {
	switch what {
	case "status":
		s, err := tool.Status(ctx)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(s)
	case "logs":
		paths, err := tool.Logs()
		fmt.Println(strings.Join(paths, " "))
		return err
	}
	if patience, err := time.ParseDuration(os.Getenv("TOOL_PATIENCE")); err == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	return tool.Stop(ctx)
}

func (i *installed) status() (s usher.Status) {
	i.t.Helper()
	if err := json.Unmarshal([]byte(i.calls("status")), &s); err != nil {
		i.t.Fatal(err)
	}
	return s
}

// TestLookingStartsNothing: whoever asks for status or stops what does not run finds
// nothing, and leaves nothing.
func TestLookingStartsNothing(t *testing.T) {
	i := install(t)
	if s := i.status(); s.Broker != 0 || len(s.Daemons) != 0 {
		t.Errorf("got %+v", s)
	}
	if said := i.calls("stop"); said != "" {
		t.Errorf("got %q", said)
	}
	if said := i.calls("logs"); said != "\n" {
		t.Errorf("got %q", said)
	}
	if pids := i.processes(); len(pids) > 0 {
		t.Errorf("processes %v", pids)
	}
}

// TestStatus: daemons of several builds and environments, with what tells them apart.
func TestStatus(t *testing.T) {
	i := install(t)
	first := pid(t, i.calls("call", "GOVERSION=a"))
	stays := i.stays("GOVERSION=b")
	defer stays.ends()
	second := pid(t, stays.says("one"))
	var s usher.Status
	testutil.WaitFor(t, "the connection is known", func() bool {
		s = i.status()
		return len(s.Daemons) == 2 && s.Daemons[1].Connections == 1 && s.Daemons[0].Connections == 0
	})
	one, two := s.Daemons[0], s.Daemons[1]
	if one.PID != first || two.PID != second || one.State != "ready" || one.Connections != 0 || one.IdleSince.IsZero() || !two.IdleSince.IsZero() ||
		!slices.Equal(one.DiffersIn, []string{"GOVERSION"}) || !slices.Equal(two.DiffersIn, []string{"GOVERSION"}) || one.Build != two.Build || one.Build == "" || one.Memory == 0 {
		t.Errorf("got %+v", s.Daemons)
	}
	if err := i.Replace("/proc/self/exe", "another"); err != nil {
		t.Fatal(err)
	}
	i.calls("call", "GOVERSION=a")
	if testutil.Portable { // a build whose file was replaced can't be known again by the next broker
		return
	}
	s = i.status()
	newer := slices.IndexFunc(s.Daemons, func(d usher.Daemon) bool { return d.Build != one.Build }) // anywhere: its broker gives way to one of the new build
	if len(s.Daemons) != 3 || newer < 0 || !slices.Equal(s.Daemons[newer].DiffersIn, []string{"GOVERSION", "build"}) {
		t.Errorf("got %+v", s.Daemons)
	}
	logs := strings.Fields(i.calls("logs"))
	if len(logs) != 4 || filepath.Base(logs[0]) != "broker.log" || !slices.Contains(logs, two.Log) {
		t.Errorf("got %q, without %q", logs, two.Log)
	}
}

// TestToolStop: daemons of all builds end, and the broker. One that serves is told of, and
// serves on.
func TestToolStop(t *testing.T) {
	i := install(t)
	i.calls("call")
	if !testutil.Portable { // a build whose file was replaced is not known to the next broker
		if err := i.Replace("/proc/self/exe", "another"); err != nil {
			t.Fatal(err)
		}
		i.calls("call")
	}
	if said := i.calls("stop"); said != "" {
		t.Errorf("got %q", said)
	}
	if pids := i.processes(); len(pids) > 0 {
		t.Errorf("processes %v", pids)
	}
	if names, err := i.Sockets(); err != nil || len(names) > 0 {
		t.Errorf("names %q, %v", names, err)
	}

	stays := i.stays()
	serves := pid(t, stays.says("one"))
	out, err := i.command("stop", "TOOL_PATIENCE=3s").Output()
	if want := fmt.Sprintf("daemon %d serves 1 connection", serves); err == nil || !strings.Contains(string(out), want) {
		t.Errorf("got %q, %v, want it with %q", out, err, want)
	}
	if pids := i.processes(); !slices.Equal(pids, []int{serves}) {
		t.Errorf("processes %v, want the daemon alone", pids)
	}
	if again := pid(t, i.calls("call")); again == serves {
		t.Errorf("the stopped daemon is given calls")
	}
	i.calls("stop")
	stays.ends()
	testutil.WaitFor(t, "all have ended", func() bool { return len(i.processes()) == 0 })
}

// TestToolBusy: a daemon that is at work stays although it is idle, and whoever calls is
// served by it; one that is stopped first does its work.
func TestToolBusy(t *testing.T) {
	i := install(t)
	i.idle = 20 * time.Millisecond
	work := filepath.Join(i.Dir, workName)
	if err := os.WriteFile(work, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := pid(t, i.calls("call"))
	busy := func(state string) func() bool {
		return func() bool {
			s := i.status()
			return len(s.Daemons) == 1 && s.Daemons[0].PID == daemon && s.Daemons[0].Busy && s.Daemons[0].State == state
		}
	}
	testutil.WaitFor(t, "it says that it is at work", busy("ready"))
	if again := pid(t, i.calls("call")); again != daemon {
		t.Errorf("served by %d, not by %d, which is at work", again, daemon)
	}
	out, err := i.command("stop", "TOOL_PATIENCE=3s").Output()
	if want := fmt.Sprintf("daemon %d is at work, and has not ended yet", daemon); err == nil || !strings.Contains(string(out), want) {
		t.Errorf("got %q, %v, want it with %q", out, err, want)
	}
	if pids := i.processes(); !slices.Equal(pids, []int{daemon}) {
		t.Errorf("processes %v, want the daemon alone", pids)
	}
	if err := os.Remove(work); err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "all have ended", func() bool { return len(i.processes()) == 0 })
}

// TestToolRestart: the new daemon is of the old one's build, although that lies on no disk
// any more, and takes its place.
func TestToolRestart(t *testing.T) {
	testutil.Needs(t, "a link to the file that a process runs")
	i := install(t)
	stays := i.stays()
	old := pid(t, stays.says("one"))
	if err := i.Replace("/proc/self/exe", "another"); err != nil {
		t.Fatal(err)
	}
	before := i.status().Daemons
	names, err := i.Sockets()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(names, func(name string) bool { return !strings.Contains(name, "-be-") })
	reply, err := adminclient.Ask(t.Context(), names[at], &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_SERVICE_RESTART, ServiceName: tool.Name})
	if err != nil || reply.ExitCode != 0 {
		t.Fatalf("%v, %v", reply, err)
	}
	after := i.status().Daemons
	if len(before) != 1 || len(after) != 2 || after[0].PID != old || after[0].State != "draining" || after[1].State != "ready" ||
		after[1].Build != before[0].Build || len(after[1].DiffersIn) > 0 {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	if p := pid(t, stays.says("two")); p != old {
		t.Errorf("the connection is served by %d, not by %d", p, old)
	}
	stays.ends()
	testutil.WaitFor(t, "the old daemon has ended", func() bool { return len(i.status().Daemons) == 1 })
}
