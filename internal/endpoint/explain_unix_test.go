//go:build unix

package endpoint

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/sock"
)

// TestExplain: a refused path is blamed on the variable that led there, on the one that
// is missing, or on none.
func TestExplain(t *testing.T) {
	const runtime, own = "/run/user/7", "/tmp/running-process-7/broker/x.sock"
	set := map[string]string{"XDG_RUNTIME_DIR": runtime}
	below := runtime + "/running-process/broker/x.sock"
	for _, c := range []struct {
		name   string
		env    map[string]string
		mapped bool
		path   string
		err    error
		want   string // "" for nothing added
	}{
		{"another user's", set, false, below, foreignTo(runtime, 8, 7), "XDG_RUNTIME_DIR leads user 7 there"},
		{"forbidden", set, false, below, fs.ErrPermission, "XDG_RUNTIME_DIR leads user 7 there"},
		{"nobody's that can be named", set, true, below, foreignTo("/", sock.OverflowUID, 7), ""},
		{"not set, and taken", nil, false, own, fs.ErrPermission, "XDG_RUNTIME_DIR is not set: set it to a directory of your own"},
		{"not set, and another user's", nil, false, own, foreignTo("/tmp/running-process-7", 8, 7), "XDG_RUNTIME_DIR is not set"},
		{"missing in a user namespace", set, true, below, fs.ErrNotExist, SocketVariable + " is not set, and in this user namespace you are user 7"},
		{"missing", set, false, below, fs.ErrNotExist, ""},
		{"missing at a chosen path", nil, true, "/elsewhere/x.sock", fs.ErrNotExist, ""},
		{"forbidden at a chosen path", nil, false, "/elsewhere/x.sock", fs.ErrPermission, ""},
	} {
		for _, goos := range []string{"linux", "freebsd"} {
			h := withEnv(goos, c.env)
			h.mapped = func() bool { return c.mapped }
			got := h.explain(c.path, c.err)
			if c.want == "" && got != c.err || !strings.Contains(got.Error(), c.want) {
				t.Errorf("%s, %s: %v, want %q", goos, c.name, got, c.want)
			}
		}
	}
}
