package testutil

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// HelperVariable names the helper that this process is to be. It means something to
// test binaries that call Main alone.
const HelperVariable = "USHER_TEST_HELPER"

// helperLife bounds a helper process, should its test end without it.
const helperLife = 5 * time.Minute

// Main is for TestMain: it runs the tests or, in a process that Helper started,
// the helper of that name. It does not return.
//
// The tests have a runtime directory of their own: a broker waits for the backends that live
// in the one that it has, and those of this user are none of theirs.
func Main(m *testing.M, helpers map[string]func() error) {
	name, ok := os.LookupEnv(HelperVariable)
	if !ok {
		os.Exit(run(m))
	}
	time.AfterFunc(helperLife, func() { os.Exit(3) })
	if err := helpers[name](); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "u")
	if err == nil {
		err = os.Setenv("XDG_RUNTIME_DIR", dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	return m.Run()
}

// Helper prepares the test binary as another process, to be the named helper.
// The files become its descriptors 3 and up. The caller starts it; if it still
// runs at the test's end, it is killed then, and awaited in any case.
func Helper(tb testing.TB, name string, files ...*os.File) *exec.Cmd {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), HelperVariable+"="+name, "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	cmd.ExtraFiles = files
	cmd.Stderr = os.Stderr
	tb.Cleanup(func() {
		cancel()
		if cmd.Process != nil && cmd.ProcessState == nil {
			_ = cmd.Wait()
		}
	})
	return cmd
}
