package start

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/test/windows/fixture"
)

const modeVariable = "USHER_TEST_MODE" // of an instance

func TestMain(m *testing.M) {
	fixture.Main(m, map[string]func() error{"instance": beInstance})
}

// beInstance answers each line with itself, its pid and how it came.
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
		go fixture.ServeLines(c.(*backend.Conn), func(string) {})
	}
}

// surroundings are those of a broker whose service is started as an instance in mode.
func surroundings(t *testing.T, mode string, more ...string) {
	t.Helper()
	fixture.Surroundings(t, append([]string{
		"--start", "--env", testutil.HelperVariable + "=instance", "--env", modeVariable + "=" + mode,
	}, more...)...)
}

// broker is one with which ends what it has started.
func broker(t *testing.T) *fixture.Process {
	t.Helper()
	p := fixture.Broker(t)
	t.Cleanup(func() {
		all, _ := living() // of none that has ended
		for _, i := range all {
			end(i.PID)
		}
	})
	return p
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
	text, err := fixture.Run("ps", "--json")
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
	ctx, cancel := context.WithTimeout(t.Context(), fixture.Patience)
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		t.Errorf("process %d has not ended: %v", p.PID(), err)
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
	answer, c, err := fixture.Ask(fixture.Options(), request, false)
	if err != nil {
		return 0, false, err
	}
	_ = c.Close()
	if _, err = fmt.Sscanf(answer, request+" %d %t", &pid, &handed); err != nil {
		err = fmt.Errorf("answered %q: %w", answer, err)
	}
	return pid, handed, err
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
