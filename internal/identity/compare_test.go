package identity

import (
	"bytes"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// mismatch is how a v1 broker judges an answer: the first field, by its wire name,
// that tells got from the process it expects, or nothing. Start time and idle timeout
// are not compared (spec 01 §11, check 10). Usher's broker expects no identity
// beforehand; the tests hold what usher's backends answer against this.
func mismatch(expected, got *wire.DaemonProcess) string {
	want, have := expected.IpcEndpoint, got.IpcEndpoint
	switch {
	case expected.Pid != got.Pid:
		return "pid"
	case expected.ExePath != got.ExePath:
		return "exe_path"
	case !bytes.Equal(expected.ExeHash, got.ExeHash):
		return "exe_hash"
	case expected.BootId != got.BootId:
		return "boot_id"
	case want.NamespaceId != have.NamespaceId || want.Path != have.Path:
		return "ipc_endpoint"
	}
	return ""
}

func TestCompareVectors(t *testing.T) {
	var v identityVectors
	testutil.Vectors(t, "identity.json", &v)
	expected := testutil.Message(t, "DaemonProcess", v.ProbeCompare.Expected).(*wire.DaemonProcess)
	for _, c := range v.ProbeCompare.Cases {
		got := new(wire.DaemonProcess) // what is read behind expected is merged into it
		merged := append(wire.Marshal(expected), wire.Marshal(testutil.Message(t, "DaemonProcess", c.Change))...)
		if err := wire.Unmarshal(merged, got); err != nil {
			t.Fatal(err)
		}
		verdict := "match"
		if field := mismatch(expected, got); field != "" {
			verdict = "mismatch " + field
		}
		if !strings.HasPrefix(c.Expect, verdict) {
			t.Errorf("%v: %s; want %s", c.Change, verdict, c.Expect)
		}
	}
}
