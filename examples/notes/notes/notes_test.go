//go:build linux

package notes_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/examples/notes/notes"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// serve runs a broker and notes behind it until the test's end, and returns the
// broker's socket. One connection has been handed over then.
func serve(t *testing.T) string {
	t.Helper()
	dir := testutil.SocketDir(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	definitions := filepath.Join(dir, "services")
	_, err = service.Save(definitions, &wire.ServiceDefinition{
		ServiceName: notes.Service, BinaryPath: self, Isolation: wire.BrokerIsolation_SHARED_BROKER,
	}, service.TOML)
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.Listen(broker.Options{
		Socket: filepath.Join(dir, "broker.sock"), DefinitionDir: definitions, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	testutil.Background(t, b.Serve)
	testutil.Background(t, func(ctx context.Context) error {
		return notes.Run(ctx, notes.Options{Broker: b.Socket(), Pipe: filepath.Join(dir, "notes.sock")})
	})
	testutil.WaitFor(t, "notes is registered", func() bool {
		conn, err := client.Dial(t.Context(), options(b.Socket()))
		return err == nil && conn.Close() == nil
	})
	return b.Socket()
}

func options(socket string) client.Options {
	return client.Options{Service: notes.Service, Version: notes.DefaultVersion, Broker: socket}
}

func browser(t *testing.T, opts client.Options) *http.Client {
	transport := &http.Transport{DialContext: client.HTTP(opts)}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// do makes one request and returns status and body.
func do(t *testing.T, c *http.Client, method, path, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://notes"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(answer))
}

func TestNotes(t *testing.T) {
	testutil.Leaks(t)
	c := browser(t, options(serve(t)))
	for _, tc := range []struct {
		method, path, body string
		header             []string
		status             int
		answer             string
	}{
		{"GET", "/notes", "", nil, 200, `[]`},
		{"POST", "/notes", `{"text":"milk"}`, []string{"X-Request-Id", "a"}, 201, note(1, "milk")},
		{"POST", "/notes", `{"text":"eggs"}`, []string{"Idempotency-Id", "b"}, 201, note(2, "eggs")},
		{"POST", "/notes", `{"text":"tea"}`, []string{"X-Request-Id", "b"}, 201, note(3, "tea")},
		{"POST", "/notes", `{"text":"rice"}`, nil, 201, note(4, "rice")},
		{"GET", "/notes", "", nil, 200, "[" + note(1, "milk") + "," + note(2, "eggs") + "," + note(3, "tea") + "," + note(4, "rice") + "]"},
		{"POST", "/notes", `milk`, nil, 400, ""},
		{"POST", "/notes", `{"text":"` + strings.Repeat("x", 65<<10) + `"}`, nil, 400, ""},
		{"DELETE", "/notes", "", nil, 405, ""},
		{"GET", "/", "", nil, 404, ""},
	} {
		status, answer := do(t, c, tc.method, tc.path, tc.body, tc.header...)
		if status != tc.status || tc.answer != "" && answer != tc.answer {
			t.Errorf("%s %s %.20s: %d %s, want %d %s", tc.method, tc.path, tc.body, status, answer, tc.status, tc.answer)
		}
	}
}

func note(id int, text string) string {
	return fmt.Sprintf(`{"id":%d,"text":%q,"by":%d}`, id, text, os.Getpid())
}

func TestReport(t *testing.T) {
	testutil.Leaks(t)
	opts := options(serve(t))
	handedOver := browser(t, opts)
	opts.NoHandoff = true
	dialled := browser(t, opts)
	for _, c := range []*http.Client{handedOver, dialled} {
		do(t, c, "POST", "/notes", `{"text":"x"}`, "X-Request-Id", "twice")
	}
	do(t, dialled, "POST", "/notes", `{"text":"x"}`, "X-Request-Id", "once")
	_, answer := do(t, dialled, "GET", "/debug/executions", "")
	var got notes.Report
	if err := json.Unmarshal([]byte(answer), &got); err != nil {
		t.Fatal(err)
	}
	if got.FDs == 0 || got.Goroutines == 0 {
		t.Errorf("%d descriptors, %d goroutines", got.FDs, got.Goroutines)
	}
	want := notes.Report{Executions: map[string]int{"twice": 2, "once": 1}, HandedOver: 2, Dialled: 1}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(notes.Report{}, "FDs", "Goroutines")); diff != "" {
		t.Error(diff)
	}
}

func TestRunErrors(t *testing.T) {
	for _, opts := range []notes.Options{
		{Version: "one"},
		{Pipe: filepath.Join(t.TempDir(), strings.Repeat("x", 200))},
	} {
		if err := notes.Run(t.Context(), opts); err == nil {
			t.Errorf("%+v: no error", opts)
		}
	}
}
