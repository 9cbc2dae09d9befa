package usage

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestCountInodes(t *testing.T) {
	dir := t.TempDir()
	here, below := CountInodes(dir), CountInodes(filepath.Join(dir, "not", "there"))
	if here.Total != below.Total || below.Problem != "" {
		t.Errorf("%+v below %+v", below, here)
	}
	if runtime.GOOS == "linux" {
		if got := CountInodes(filepath.Join("/proc/self/status", "x")); got.Problem == "" {
			t.Errorf("a file is no directory: %+v", got)
		}
	}
}

func TestDescriptors(t *testing.T) {
	before := Descriptors()
	if before <= 0 || before >= 1 {
		t.Skipf("usage %g is not to be had here", before)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if after := Descriptors(); after <= before {
		t.Errorf("with one more, usage goes from %g to %g", before, after)
	}
}
