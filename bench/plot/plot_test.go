package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/bench"
)

// TestDrawing: a report becomes a drawing and a picture, with every series named.
func TestDrawing(t *testing.T) {
	series := func(arm string, from float64) *bench.Series {
		s := &bench.Series{Stack: "usher", Arm: arm}
		for i := range 401 {
			s.Quantiles = append(s.Quantiles, from+float64(i))
		}
		return s
	}
	report, err := json.Marshal(&bench.Report{
		Settings: []*bench.Setting{{Name: "unpinned", Series: []*bench.Series{series("handed over", 90), series("reconnect", 120)}}},
		Timeline: []bench.Mark{{Process: "client", What: "began"}, {Process: "backend", What: "answered", AtUS: 90}},
	})
	if err != nil {
		t.Fatal(err)
	}
	svg, png := filepath.Join(t.TempDir(), "l.svg"), filepath.Join(t.TempDir(), "l.png")
	for _, path := range []string{svg, png} {
		if err := run([]string{"-o", path}, bytes.NewReader(report)); err != nil {
			t.Fatal(err)
		}
	}
	drawn, err := os.ReadFile(svg)
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(drawn)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal("the drawing is no XML:", err)
		}
	}
	for _, text := range []string{"usher: handed over", "usher: reconnect", "answered"} {
		if !strings.Contains(string(drawn), text) {
			t.Errorf("%q is not in the drawing", text)
		}
	}
	if picture, err := os.ReadFile(png); err != nil || !bytes.HasPrefix(picture, []byte("\x89PNG")) {
		t.Errorf("the picture is no PNG: %v", err)
	}
}

// TestNothingToDraw: what can't be drawn is said, not drawn.
func TestNothingToDraw(t *testing.T) {
	out := filepath.Join(t.TempDir(), "l.svg")
	for name, c := range map[string]struct {
		args []string
		in   string
		want string
	}{
		"no series":  {[]string{"-o", out}, "{}", "nothing was measured"},
		"no report":  {[]string{"-o", out}, "x", "read the report"},
		"no samples": {[]string{"-o", out}, `{"settings":[{"series":[{"stack":"a","arm":"b"}]}]}`, "no quantiles"},
		"bad ending": {[]string{"-o", "l.gif"}, "{}", ".svg or .png"},
	} {
		if err := run(c.args, strings.NewReader(c.in)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
