package broker_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/client"
)

func TestSmoke(t *testing.T) {
	dir, err := os.MkdirTemp("", "u")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o700)
	defs := filepath.Join(dir, "defs")
	os.Mkdir(defs, 0o700)
	exe, _ := os.Executable()
	os.WriteFile(filepath.Join(defs, "notes.toml"), []byte(fmt.Sprintf("binary_path = %q\n", exe)), 0o600)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b, err := broker.Listen(broker.Options{Socket: filepath.Join(dir, "b.sock"), DefinitionDir: defs, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- b.Serve(ctx) }()
	ln, err := backend.Listen(ctx, backend.Options{Service: "notes", Version: "1.2.0", Broker: b.Socket(), Pipe: filepath.Join(dir, "p.sock"), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hi") })}
	go srv.Serve(ln)
	for range 3 {
		opts := client.Options{Service: "notes", Version: "1.2.0", Broker: b.Socket()}
		tr := &http.Transport{DialContext: client.HTTP(opts)}
		c := http.Client{Transport: tr}
		begin := time.Now()
		resp, err := c.Get("http://notes/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		t.Logf("%s %v", body, time.Since(begin))
		tr.CloseIdleConnections()
	}
	conn, err := client.Dial(ctx, client.Options{Service: "notes", Version: "1.2.0", Broker: b.Socket()})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(conn.Route(), conn.ID(), conn.Endpoint())
	conn.Close()
	srv.Shutdown(ctx)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
