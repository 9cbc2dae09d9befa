//go:build linux

package cli

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestEvents: what a broker has seen is there without it; of one service, as JSON, and
// while it happens.
func TestEvents(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	run(t, "events").want(t, 0, "", "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	followed := make(chan int, 1)
	go func() {
		code := Run(ctx, []string{"events", "--follow"}, strings.NewReader(""), w, io.Discard)
		_ = w.Close()
		followed <- code
	}()

	p.define(t, "notes")
	stop := serve(t, p.socket, "--backend-wait", "1ns")
	if code := runWith(t.Context(), strings.NewReader(""), "connect", "notes@1.0.0").code; code == 0 {
		t.Error("connected to nobody")
	}
	run(t, "events").want(t, 0, "broker.serving       -  pid ", "")
	stop().want(t, 0, "", "broker.stopped")
	all := run(t, "events")
	all.want(t, 0, "HELLO_REFUSED        notes  pid ", "")
	all.want(t, 0, "DIED_SHUTDOWN", "")
	if strings.Contains(all.stdout, "\x1b") {
		t.Errorf("colours in a pipe: %q", all.stdout)
	}
	one := run(t, "events", "--service", "notes", "--json")
	var said struct {
		Time, Kind, Reason string
		Service            string `json:"service_name"`
		Extra              map[string]string
	}
	if err := json.NewDecoder(strings.NewReader(one.stdout)).Decode(&said); err != nil {
		t.Errorf("%v: %s", err, one.stdout)
	}
	if said.Kind != "HELLO_REFUSED" || said.Service != "notes" || said.Extra["event"] != "hello.refused" || said.Time == "" {
		t.Errorf("got %+v", said)
	}
	if r := run(t, "__complete", "events", "--service", ""); !strings.HasPrefix(r.stdout, "notes\n") {
		t.Errorf("suggests %q", r.stdout)
	}
	run(t, "events", "--instance", "explicit:none").want(t, 0, "", "")
	run(t, "events", "--instance", "none").want(t, exitUsage, "", "none")

	var live strings.Builder
	for buf := make([]byte, 4096); !strings.Contains(live.String(), "DIED_SHUTDOWN"); {
		n, err := r.Read(buf)
		if live.Write(buf[:n]); err != nil {
			t.Fatalf("%v after %q", err, &live)
		}
	}
	if live.String() != all.stdout {
		t.Errorf("followed\n%s\nwant\n%s", &live, all.stdout)
	}
	cancel()
	if code := <-followed; code != 0 && code != exitInterrupted {
		t.Errorf("--follow ends with %d", code)
	}
	_ = r.Close()
}

func TestServeEvents(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	elsewhere := filepath.Join(p.dir, "elsewhere")
	serve(t, p.socket, "--events", elsewhere)().want(t, 0, "", "broker.stopped")
	run(t, "events", "--file", elsewhere).want(t, 0, "broker.serving", "")
	if err := os.Remove(elsewhere); err != nil {
		t.Fatal(err)
	}
	serve(t, p.socket, "--events", "off")().want(t, 0, "", "broker.stopped")
	run(t, "events").want(t, 0, "", "")
}
