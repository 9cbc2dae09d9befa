package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7265657e/usher/internal/cli"
	"github.com/seed-7265657e/usher/internal/demo"
)

// programVariable says that this process is usher: what the demo starts is this executable.
// What that starts by itself, as a tool in one binary, does not inherit it.
const programVariable = "USHER_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		os.Exit(cli.Main())
	}
	demo.ToolMain()
	os.Exit(m.Run())
}

// TestDemo: all is played.
func TestDemo(t *testing.T) {
	dir, err := os.MkdirTemp("", "usher")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"TMP", "TEMP"} {
		t.Setenv(name, dir)
	}
	t.Setenv("RUNNING_PROCESS_DISABLE", "1") // the user's own settings are not the demo's
	t.Setenv(programVariable, "1")
	var out, errs bytes.Buffer
	code := cli.Run(t.Context(), []string{"demo", "--json", "--requests", "40"}, strings.NewReader(""), &out, &errs)
	if code != 0 || errs.Len() > 0 {
		t.Errorf("ended with %d: %s", code, errs.String())
	}
	var got demo.Result
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	var names []string
	for _, s := range got.Scenarios {
		names = append(names, s.Name)
		if !s.OK || s.Detail == "" {
			t.Errorf("%s: ok %v: %s", s.Name, s.OK, s.Detail)
		}
	}
	if diff := cmp.Diff([]string{
		"one-binary", "replaced-build", "handed-over", "reconnect", "keep-alive", "frozen-backend", "killed-backend",
		"killed-after-adopting", "broker-restart", "broker-upgrade", "no-leaks",
	}, names); diff != "" {
		t.Error(diff)
	}
	if len(got.Timeline) == 0 {
		t.Error("no timeline")
	}
	got.Scenarios, got.Timeline = nil, nil
	// 64 and 4 of a tool; 40 handed over and 10 reconnected; 10 kept alive; 2 frozen, 1
	// killed and 1 crashed; 9 on a kept connection and 3 fresh ones around the restart; 11 on
	// a kept connection around the upgrades, and as many fresh ones as could be made meanwhile.
	want := demo.Result{Requests: 155, HandedOver: 144, Reconnected: 10, Unknown: 1}
	fresh := got.Requests - want.Requests
	if fresh < 1 {
		t.Errorf("%d requests during the upgrades", fresh)
	}
	want.Requests, want.HandedOver = want.Requests+fresh, want.HandedOver+fresh
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(demo.Result{})); diff != "" {
		t.Error(diff)
	}
	if t.Failed() {
		t.Logf("%s", out.Bytes())
	}
	if err := os.Remove(dir); err != nil {
		t.Errorf("left behind: %v, %v", left(dir), err)
	}
}

// left are the names below dir, which are removed.
func left(dir string) (names []string) {
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	for _, path := range slices.Backward(names) {
		err = errors.Join(err, os.Remove(path))
	}
	return append(names, fmt.Sprint(err))
}
