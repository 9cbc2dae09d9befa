package cli

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// logLines reads r until end has run and r has ended.
func logLines(t *testing.T, r io.Reader, end func()) []string {
	t.Helper()
	var out bytes.Buffer
	done := make(chan struct{})
	go func() { defer close(done); _, _ = io.Copy(&out, r) }()
	end()
	<-done
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

// TestStalledLog: a log that nobody reads holds nobody up; what fitted comes in
// order once it is read again, and what is missing is counted where it is missing.
func TestStalledLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		log, end, err := startLog(w, "error", logText)
		if err != nil {
			t.Fatal(err)
		}
		const lost = 3
		log.Error("line 0")
		synctest.Wait() // it is being written
		for n := range maxLogLines + lost {
			log.Error(fmt.Sprint("line ", n+1))
		}
		lines := logLines(t, r, func() {
			synctest.Wait()
			log.Error("line last")
			end()
			_ = w.Close()
		})
		if want := maxLogLines + 3; len(lines) != want {
			t.Fatalf("%d lines, want %d", len(lines), want)
		}
		for n, line := range lines[:maxLogLines+1] {
			if !strings.HasSuffix(line, fmt.Sprint("line ", n)) {
				t.Fatalf("line %d is %q", n, line)
			}
		}
		if missing := lines[maxLogLines+1]; !strings.Contains(missing, "log lines lost") || !strings.HasSuffix(missing, fmt.Sprint("lines=", lost)) {
			t.Errorf("the loss is told as %q", missing)
		}
		if last := lines[maxLogLines+2]; !strings.HasSuffix(last, "line last") {
			t.Errorf("the last line is %q", last)
		}
	})
}

// TestStalledLogEnds: the end waits for a bounded time, and nothing is written
// after it but the line under way. That the goroutine ends is what the bubble's
// end waits for.
func TestStalledLogEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		log, end, err := startLog(w, "info", logText)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("under way")
		synctest.Wait()
		log.Info("waits")
		begin := time.Now()
		end()
		if took := time.Since(begin); took != logPatience {
			t.Errorf("the end took %v, want %v", took, logPatience)
		}
		log.Info("too late")
		lines := logLines(t, r, func() {
			synctest.Wait()
			_ = w.Close()
		})
		if len(lines) != 1 || !strings.HasSuffix(lines[0], "under way") {
			t.Errorf("read %q", lines)
		}
	})
}

// TestLogWithoutReader: a reader that has gone costs its lines and nothing else.
func TestLogWithoutReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		_ = r.Close()
		log, end, err := startLog(w, "info", logText)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 * maxLogLines {
			log.Info("line")
		}
		begin := time.Now()
		end()
		if took := time.Since(begin); took != 0 {
			t.Errorf("the end took %v", took)
		}
	})
}
