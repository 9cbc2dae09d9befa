//go:build unix

package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

func TestStatus(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	p.define(t, "notes")
	p.startBroker(t)
	run(t, "status").want(t, 0, "backends     none", "")
	p.startBackend(t, "notes", "1.2.0", echo)
	run(t, "connect", "nobody@1.0.0").want(t, exitFailed, "", "service definition was not found")

	r := run(t, "status")
	r.want(t, 0, fmt.Sprintf("broker       shared, pid %d, up 0s\nsocket       %s\naccepting    yes\n", os.Getpid(), p.socket), "")
	for _, text := range []string{"adopted 0, not taken 0", "reconnected 0, waited for a backend 0, refused 1, gone 0", "SERVICE", "notes    1.2.0", "running"} {
		if !strings.Contains(r.stdout, text) {
			t.Errorf("%q is missing in\n%s", text, r.stdout)
		}
	}
}

func TestStatusJSON(t *testing.T) {
	p := newPlace(t)
	p.startBroker(t)
	r := run(t, "status", "--json")
	r.want(t, 0, "\n", "")
	var body struct {
		Command string `json:"command"`
		PID     int    `json:"broker_pid"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &body); err != nil || body.Command != "status" || body.PID != os.Getpid() {
		t.Errorf("%+v, %v", body, err)
	}
}

func TestStatusWithoutBroker(t *testing.T) {
	p := newPlace(t)
	want := "no broker answers at " + p.socket + " (no such file or directory): start one with \"usher serve\""
	run(t, "status").want(t, exitFailed, "", want)
	run(t, "status", "--json").want(t, exitFailed, "", want)
}

// TestStatusOfOthers shows bodies that this broker does not write, or seldom.
func TestStatusOfOthers(t *testing.T) {
	for _, tc := range []struct {
		name           string
		reply          *wire.AdminReply
		code           int
		stdout, stderr string
	}{
		{"v1", &wire.AdminReply{Body: `{"broker_instance":"launch","accepting_hello":true,"uptime_seconds":90.5}`}, 0, "launch, pid 0, up 1m30s", ""},
		{"v1 without backends", &wire.AdminReply{Body: `{"broker_instance":"launch"}`}, 0, "none: this is a v1 broker, where none register", ""},
		{"usher's without backends", &wire.AdminReply{Body: `{"handoffs":{}}`}, 0, "none: they register by themselves", ""},
		{"system", &wire.AdminReply{Body: `{"system":{"processes":"pid and start time","claims":"pipe"}}`}, 0, "processes by pid and start time, claims by pipe", ""},
		{"lesser system", &wire.AdminReply{Body: `{"system":{"without":["watches"]}}`}, 0, "without watches", ""},
		{"draining", &wire.AdminReply{Body: `{"accepting_hello":false}`}, 0, "no: draining", ""},
		{"demoted", &wire.AdminReply{Body: `{"fd_pressure":{"demoted":true}}`}, 0, "no: short of file descriptors", ""},
		{"not JSON", &wire.AdminReply{Body: "hello"}, 1, "", "not readable"},
		{"unsupported", &wire.AdminReply{Body: "unsupported admin verb\n", ExitCode: 2}, 1, "", "unsupported admin verb"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			newPlace(t).startFake(t, reply(tc.reply))
			run(t, "status").want(t, tc.code, tc.stdout, tc.stderr)
		})
	}
}
