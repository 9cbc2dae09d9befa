package windows

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/cli"
	"github.com/seed-7265657e/usher/test/windows/fixture"
)

// verb runs usher within this process, and returns its exit code and all that it has said.
func verb(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	var out bytes.Buffer
	code = cli.Run(t.Context(), args, strings.NewReader(""), &out, &out)
	return code, out.String()
}

// TestVerbs: each answers as elsewhere, or names what Windows has instead.
func TestVerbs(t *testing.T) {
	fixture.Surroundings(t)
	serving := fixture.Broker(t)
	lines := registered(t, role{})
	pid := fmt.Sprint(lines.PID())
	for _, tc := range []struct {
		args string
		code int
		want string // a regular expression
	}{
		{"status", 0, `(?s)processes by handle, claims by event.*lines +1\.0\.0 +` + pid + ` +running .*\\\\\.\\pipe\\`},
		{"status --json", 0, `"broker_pid":` + fmt.Sprint(serving.PID())},
		{"ps", 0, `lines +1\.0\.0 .* ` + pid + ` +ready`},
		{"healthz", 0, `^ok\n$`},
		{"readyz", 0, ``},
		{"config", 0, `"command":"config"`},
		{"dump", 0, `"pid":` + pid},
		{"diagnose", 0, `"command":"diagnose"`},
		{"metrics", 0, `running_process_broker_v1_connections_open 1\n`},
		{"backend-health lines", 0, pid},
		{"list-instances", 0, `"pipe":"\\\\\\\\\.\\\\pipe\\\\usher-test-`},
		{"service list", 0, `lines +shared +every version +.*\.exe`},
		{"service show lines", 0, `file +.*\\services\\lines\.toml\nbinary +.*\.exe`},
		{"service check", 0, `^1 of 1 definitions in .* are sound\n$`},
		{"service pause lines", 0, `^lines is paused: `},
		{"service resume lines", 0, `^lines goes on`},
		{"logs lines", 1, `no instance of "lines" has logged in .*\\running-process\\shared`},
		{"completion powershell", 0, `Register-ArgumentCompleter`},
		{"version", 0, `built with go`},
		{"unit print --socket \\\\.\\pipe\\its", 1, `(?s)there is no systemd on this system.*\nsc create usher binPath= ".*\.exe serve --instance shared --socket \\\\\.\\pipe\\its .*" start= auto obj= `},
		{"unit install", 1, `\nsc create usher `},
		{"status --broker ssh://host", 1, `no broker on another host can be reached from this system \(.*\): run usher there, as in ssh host usher status`},
		{"status --socket C:\\usher.sock", 1, `C:\\usher\.sock is not the name of a pipe, which begins with \\\\\.\\pipe\\`},
		{"serve", 1, `a process \(pid ` + fmt.Sprint(serving.PID()) + `\) already serves \\\\\.\\pipe\\`},
		{"service remove lines", 0, `^$`},
		{"service remove lines", 1, `service "lines" in .*: service definition was not found`},
		{"shutdown", 0, `^broker shutting down\n$`},
	} {
		code, said := verb(t, strings.Split(tc.args, " ")...)
		if code != tc.code || !regexp.MustCompile(tc.want).MatchString(said) {
			t.Errorf("usher %s: %d, want %d and %s:\n%.1500s", tc.args, code, tc.code, tc.want, said)
		}
	}
	if code := serving.Ends(); code != 0 {
		t.Errorf("the broker ended with %d", code)
	}
	if code, said := verb(t, "status"); code != 1 || !strings.Contains(said, `start one with "usher serve"`) {
		t.Errorf("without a broker: %d, %s", code, said)
	}
}
