package cli

import (
	"strings"
	"testing"
)

func TestNewest(t *testing.T) {
	for _, tc := range []struct {
		name     string
		versions string // of service notes; "!" marks one whose process is gone
		want     string
	}{
		{"numbers, not text", "1.9.0 1.10.0 1.2.0", "1.10.0"},
		{"release over its candidate", "2.0.0-rc.1 2.0.0 1.0.0", "2.0.0"},
		{"candidates", "2.0.0-rc.2 2.0.0-rc.10", "2.0.0-rc.10"},
		{"no semver is lowest", "09.0.0 1.0.0", "1.0.0"},
		{"several processes", "1.0.0 1.0.0", "1.0.0"},
		{"gone", "1.0.0 2.0.0!", "1.0.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &status{Backends: []statusBackend{{Service: "other", Version: "9.0.0", State: stateRunning}}}
			for version := range strings.FieldsSeq(tc.versions) {
				version, gone := strings.CutSuffix(version, "!")
				b := statusBackend{Service: "notes", Version: version, State: stateRunning}
				if gone {
					b.State = "stale"
				}
				s.Backends = append(s.Backends, b)
			}
			if got, err := s.newest("notes"); err != nil || got != tc.want {
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

func TestNewestWithoutBackend(t *testing.T) {
	s := &status{Backends: []statusBackend{
		{Service: "web", Version: "1.0.0", State: stateRunning},
		{Service: "api", Version: "2.0.0", State: stateRunning},
		{Service: "api", Version: "2.0.0", State: stateRunning},
		{Service: "notes", Version: "1.0.0", State: "stale"},
	}}
	_, err := s.newest("notes")
	if err == nil || !strings.Contains(err.Error(), `"notes"`) || !strings.Contains(err.Error(), "(live are api@2.0.0, web@1.0.0)") {
		t.Errorf("error is %v", err)
	}
	if _, err := new(status).newest("notes"); err == nil || !strings.Contains(err.Error(), "no backend is live") {
		t.Errorf("error is %v", err)
	}
}
