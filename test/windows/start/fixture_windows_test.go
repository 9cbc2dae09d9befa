package start

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/cli"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/testutil"
)

const (
	service = "lines"
	version = "1.0.0"
	// patience bounds what must happen; nothing that passes takes a part of it.
	patience = 40 * time.Second

	helperVariable = "USHER_TEST_HELPER"
	modeVariable   = "USHER_TEST_MODE" // of an instance
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func() error{"usher": beUsher, "instance": beInstance})
}

func beUsher() error {
	os.Args = append(os.Args[:1], strings.Split(os.Getenv(modeVariable), " ")...)
	_ = os.Unsetenv(helperVariable) // what it starts is something else
	os.Exit(cli.Main())
	return nil
}

// beInstance answers each line with its process id and how the connection came.
func beInstance() error {
	switch os.Getenv(modeVariable) {
	case "fails":
		fmt.Println("no licence")
		return errors.New("can't serve")
	case "hangs": // with a process of its own
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), modeVariable+"=hangs alone")
		if err := cmd.Start(); err != nil {
			return err
		}
		fmt.Println("child", cmd.Process.Pid)
		return cmd.Wait()
	case "hangs alone":
		select {}
	}
	ln, err := backend.Listen(context.Background(), backend.Options{})
	if err != nil {
		return err
	}
	fmt.Println("serving as", os.Getpid())
	for {
		c, err := ln.Accept()
		if err != nil {
			return ln.Drain(context.Background())
		}
		go serve(c.(*backend.Conn))
	}
}

func serve(c *backend.Conn) {
	defer func() { _ = c.Close() }()
	for in := bufio.NewScanner(c); in.Scan(); {
		if _, err := fmt.Fprintf(c, "%d %v %s\n", os.Getpid(), c.HandedOver(), in.Text()); err != nil {
			return
		}
	}
}

// surroundings gives the test directories of its own, and a name for its broker, whose
// service this test binary is as an instance in mode.
func surroundings(t *testing.T, mode string, more ...string) {
	t.Helper()
	dir := tempDir(t)
	t.Setenv("LOCALAPPDATA", dir)
	var random [8]byte
	_, _ = rand.Read(random[:])
	t.Setenv(endpoint.SocketVariable, `\\.\pipe\usher-test-`+hex.EncodeToString(random[:]))
	t.Setenv(endpoint.ServiceDefVariable, filepath.Join(dir, "services"))
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	usher(t, append([]string{
		"service", "add", service, "--binary", own, "--start",
		"--env", helperVariable + "=instance", "--env", modeVariable + "=" + mode,
	}, more...)...)
}

// tempDir is t.TempDir, removed by the calls that Wine has.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "usher")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := removeAll(dir)
		for by := time.Now().Add(patience); err != nil && time.Now().Before(by); err = removeAll(dir) {
			time.Sleep(10 * time.Millisecond) // the console of a process that has ended may have its log open for a moment
		}
		if err != nil {
			t.Error(err)
		}
	})
	return dir
}

func removeAll(dir string) error {
	var all []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	for _, path := range slices.Backward(all) {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// usher runs it within this process.
func usher(t *testing.T, args ...string) string {
	t.Helper()
	out, err := run(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func run(args ...string) (string, error) {
	var out, errs bytes.Buffer
	if code := cli.Run(context.Background(), args, strings.NewReader(""), &out, &errs); code != 0 {
		return "", fmt.Errorf("usher %q: %d: %s", args, code, errs.String())
	}
	return out.String(), nil
}

// serving is a broker.
type serving struct {
	cmd  *exec.Cmd
	wait func() error
}

// broker starts one, and has what it has started end with the test.
func broker(t *testing.T) *serving {
	t.Helper()
	cmd := testutil.Helper(t, "usher")
	cmd.Env = append(cmd.Env, modeVariable+"=serve --events off")
	b := &serving{cmd, sync.OnceValue(cmd.Wait)}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	var log bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		for once, lines := new(sync.Once), bufio.NewScanner(out); lines.Scan(); {
			fmt.Fprintln(&log, lines.Text())
			if strings.Contains(lines.Text(), `"broker.serving"`) {
				once.Do(func() { close(ready) })
			}
		}
	}()
	t.Cleanup(func() {
		all, _ := living() // of none that has ended
		for _, i := range all {
			end(i.PID)
		}
		_ = cmd.Process.Kill()
		<-read
		_ = b.wait()
		if t.Failed() {
			t.Logf("the broker (%d) said:\n%s", cmd.Process.Pid, log.String())
		}
	})
	select {
	case <-ready:
	case <-time.After(patience):
		t.Fatal("no broker serves")
	}
	return b
}

type instance struct {
	PID   int    `json:"pid"`
	State string `json:"state"`
	Log   string `json:"log"`
}

// instances are what usher ps shows.
func instances(t *testing.T) []instance {
	t.Helper()
	all, err := living()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func living() ([]instance, error) {
	var body struct {
		Instances []instance `json:"instances"`
	}
	text, err := run("ps", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(text), &body)
	}
	return body.Instances, err
}

// end ends a process that has not ended.
func end(pid int) {
	p, err := os.FindProcess(pid)
	if err != nil {
		return
	}
	_ = p.Kill()
	_, _ = p.Wait()
}

// ended waits for the end of a process.
func ended(t *testing.T, p *peer.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		t.Errorf("process %d has not ended: %v", p.PID(), err)
	}
}

// until waits for a fact that nobody announces.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for by := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(by) {
			t.Fatalf("%s: not so after %v", what, patience)
		}
	}
}

func watched(t *testing.T, pid int) *peer.Process {
	t.Helper()
	p, err := peer.OpenPID(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// ask has one request answered, and says by which process; handed is whether it was handed
// over.
func ask(request string) (pid int, handed bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := client.Dial(ctx, client.Options{Service: service, Version: version})
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, request+"\n"); err != nil {
		return 0, false, err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	fields := strings.Fields(answer)
	if err != nil || len(fields) != 3 || fields[2] != request {
		return 0, false, fmt.Errorf("answered %q: %w", answer, err)
	}
	pid, err = strconv.Atoi(fields[0])
	return pid, fields[1] == "true", err
}

func mustAsk(t *testing.T, request string) (pid int) {
	t.Helper()
	pid, handed, err := ask(request)
	if err != nil {
		t.Fatal(err)
	}
	if !handed {
		t.Errorf("%s: not handed over", request)
	}
	return pid
}
