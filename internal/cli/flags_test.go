package cli

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7265657e/usher/broker"
)

func TestBackendsValue(t *testing.T) {
	for _, tc := range []struct {
		text string
		want broker.StaticBackend
	}{
		{"notes@1.2.0=/run/n.sock", broker.StaticBackend{Service: "notes", Version: "1.2.0", Pipe: "/run/n.sock"}},
		{"notes@1.2.0-rc.1=/n,handoff=/h", broker.StaticBackend{Service: "notes", Version: "1.2.0-rc.1", Pipe: "/n", HandoffEndpoint: "/h"}},
		{"notes@1.2.0=/a=b,c", broker.StaticBackend{Service: "notes", Version: "1.2.0", Pipe: "/a=b,c"}},
	} {
		t.Run(tc.text, func(t *testing.T) {
			var v backendsValue
			if err := v.Set(tc.text); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(backendsValue{tc.want}, v); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, text := range []string{
		"", "notes", "notes@1.2.0", "notes=/n", "notes@1.2.0=", "Notes@1.2.0=/n", "notes@1=/n",
		"notes@1.2.0=/n,handoff=", "notes@1.2.0=,handoff=/h",
	} {
		t.Run("refused "+text, func(t *testing.T) {
			var v backendsValue
			if err := v.Set(text); err == nil || len(v) != 0 {
				t.Errorf("got %v, %v; want an error and nothing", v, err)
			}
		})
	}
}

func TestDurationValue(t *testing.T) {
	var v durationValue
	if err := v.Set("1500ms"); err != nil || time.Duration(v) != 1500*time.Millisecond || v.String() != "1.5s" {
		t.Errorf("got %v, %v", v, err)
	}
	for _, text := range []string{"", "5", "0s", "-1s", "soon"} {
		if err := v.Set(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}
