package service

import (
	"errors"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

func TestVersionPolicyVectors(t *testing.T) {
	var v struct {
		Policy []struct {
			Wanted, Min, Expect string
			Allow               []string
		} `json:"version_policy"`
	}
	testutil.Vectors(t, "invalid.json", &v)
	want := map[string]error{"ok": nil, "BelowMinVersion": ErrBelowMinVersion, "OutsideAllowList": ErrOutsideAllowList}
	for _, c := range v.Policy {
		d := &Definition{ServiceDefinition: &wire.ServiceDefinition{MinVersion: c.Min, VersionAllowList: c.Allow}}
		if err := d.CheckVersion(c.Wanted); err != want[c.Expect] {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestInstanceVectors(t *testing.T) {
	var v struct {
		Instances []struct {
			Isolation int32
			Service   string `json:"service_name"`
			Explicit  string `json:"explicit_instance"`
			ID        string `json:"instance_id"`
			Error     string
		}
	}
	testutil.Vectors(t, "names.json", &v)
	for _, c := range v.Instances {
		d := &Definition{ServiceDefinition: &wire.ServiceDefinition{
			ServiceName: c.Service, Isolation: wire.BrokerIsolation(c.Isolation), ExplicitInstance: c.Explicit,
		}}
		i, err := d.Instance()
		if c.Error != "" {
			if err == nil || err.Error() != c.Error {
				t.Errorf("%+v: %v", c, err)
			}
		} else if err != nil || i.String() != c.ID {
			t.Errorf("%+v: %v, %v", c, i, err)
		}
	}
}

func TestTOML(t *testing.T) {
	full := `binary_path = "/opt/demo/bin/demo"
isolation = "explicit"
explicit_instance = "ci-lane"
per_version_binary_dir = "/opt/demo"
min_version = "1.2.0"
version_allow_list = ["1.2.0"]

[labels]
"handoff.enabled" = "true"
`
	d, err := decode("demo-svc", suffixTOML, []byte(full))
	if err != nil || d.Isolation != wire.BrokerIsolation_EXPLICIT_INSTANCE || d.ServiceName != "demo-svc" || d.Labels[labelEnabled] != "true" {
		t.Errorf("full: %v, %v", d, err)
	}
	d, err = decode("demo-svc", suffixTOML, []byte(`binary_path = "/x"`))
	if err != nil || d.Isolation != wire.BrokerIsolation_SHARED_BROKER {
		t.Errorf("shared is the default: %v, %v", d, err)
	}
	for _, c := range []struct{ name, text, says string }{
		{"unknown key", "binary_path = \"/x\"\n\nmin_verzion = \"1.0.0\"\n", `line 3 (last key "min_verzion"): unknown key`},
		{"unknown table", "binary_path = \"/x\"\n[lables]\na = \"b\"\n", `line 2 (last key "lables"): unknown key`},
		{"other case", "Binary_Path = \"/x\"\n", `line 1 (last key "Binary_Path")`},
		{"empty key", "\"\" = 1", "unknown key"},
		{"syntax", "binary_path = \n", "line 1"},
		{"wrong type", "binary_path = \"/x\"\nmin_version = 1.2\n", `"min_version"`},
		{"label is no text", "binary_path = \"/x\"\n[labels]\na = 1\n", "line 3"},
		{"twice", "binary_path = \"/x\"\nbinary_path = \"/y\"\n", "line 2"},
		{"other name", "service_name = \"b\"\nbinary_path = \"/x\"\n", `requested "demo-svc" but file declares "b"`},
		{"isolation", "binary_path = \"/x\"\nisolation = \"Shared\"\n", `"Shared" is not one of explicit, private, shared`},
		{"empty file", "", "binary_path is invalid"},
	} {
		if d, err := decode("demo-svc", suffixTOML, []byte(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v; want an error with %q", c.name, d, err, c.says)
		}
	}
}

func TestHandoffPolicy(t *testing.T) {
	for _, c := range []struct {
		labels map[string]string
		want   HandoffPolicy
		bad    string
	}{
		{want: HandoffPolicy{}},
		{labels: map[string]string{"owner": "x", "handoff.enabled": "true"}, want: HandoffPolicy{Enabled: On}},
		{labels: map[string]string{"handoff.enabled": "false"}, want: HandoffPolicy{Enabled: Off}},
		{
			labels: map[string]string{"handoff.max_attempts_per_minute": "30", "handoff.disable_under_fd_pressure": "true"},
			want:   HandoffPolicy{MaxAttemptsPerMinute: 30, DisableUnderFDPressure: true},
		},
		{labels: map[string]string{"handoff.enabled": "True"}, bad: labelEnabled},
		{labels: map[string]string{"handoff.enabled": ""}, bad: labelEnabled},
		{labels: map[string]string{"handoff.disable_under_fd_pressure": "1"}, bad: labelFDPressure},
		{labels: map[string]string{"handoff.max_attempts_per_minute": "0"}, bad: labelMaxAttempts},
		{labels: map[string]string{"handoff.max_attempts_per_minute": "99999999999999999999"}, bad: labelMaxAttempts},
	} {
		d := &Definition{ServiceDefinition: &wire.ServiceDefinition{Labels: c.labels}}
		got, err := d.HandoffPolicy()
		var label *LabelError
		if c.bad != "" {
			if !errors.As(err, &label) || label.Label != c.bad {
				t.Errorf("%v: %v, want a *LabelError for %s", c.labels, err, c.bad)
			}
		} else if err != nil || got != c.want {
			t.Errorf("%v: %+v, %v; want %+v", c.labels, got, err, c.want)
		}
	}
}

func TestAllowsExecutable(t *testing.T) {
	one, two, none := [32]byte{1}, [32]byte{2}, [32]byte{}
	for _, c := range []struct {
		name        string
		dir, exe    string
		hash, files [32]byte
		want        bool
	}{
		{"same build elsewhere", "", "/tmp/copy", one, one, true},
		{"other build", "", "/opt/demo/bin/demo", one, two, false},
		{"unreadable binary matches nothing", "", "/opt/demo", none, none, false},
		{"below the directory", "/opt/demo", "/opt/demo/1.4.0/demo", one, two, true},
		{"the directory itself", "/opt/demo", "/opt/demo", one, two, false},
		{"beside the directory", "/opt/demo", "/opt/demo-evil/demo", one, two, false},
		{"out of the directory", "/opt/demo", "/opt/demo/../x", one, two, false},
		{"name begins with dots", "/opt/demo", "/opt/demo/..x", one, two, true},
		{"everything", "/", "/x", one, two, true},
		{"relative directory", "opt", "/opt/x", one, two, false},
		{"relative executable", "/opt", "opt/x", one, two, false},
	} {
		d := &Definition{ServiceDefinition: &wire.ServiceDefinition{BinaryPath: "/opt/demo/bin/demo", PerVersionBinaryDir: c.dir}}
		if got := d.AllowsExecutable(c.exe, c.hash, c.files); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
