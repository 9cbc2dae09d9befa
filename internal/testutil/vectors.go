// Package testutil holds helpers for tests only; nothing that ships imports
// it. It may import generated code and leaves, and owns no descriptors beyond
// the test that calls it.
package testutil

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Vectors decodes testdata/vectors/<file> of the module into into. It finds the
// module root upward from the working directory, so a test can call it from
// any package.
func Vectors(tb testing.TB, file string, into any) {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(moduleRoot(tb), "testdata", "vectors", file))
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		tb.Fatalf("%s: %v", file, err)
	}
}

// moduleRoot is the nearest directory above the working directory that holds a
// go.mod.
func moduleRoot(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || parent == dir {
			tb.Fatalf("no go.mod above the working directory: %v", err)
		}
		dir = parent
	}
}
