package ssh

import (
	"bufio"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// sshVia runs a command over a connection to a service, which usher makes.
func (p *place) sshVia(t *testing.T, service string, fdpass bool, command string) *exec.Cmd {
	proxy, use := p.usher+" connect --socket "+p.socket+" "+service+"@"+version, "no"
	if fdpass {
		proxy, use = proxy+" --fdpass", "yes"
	}
	return exec.CommandContext(bounded(t), "ssh", "-o", "ProxyCommand="+proxy, "-o", "ProxyUseFdpass="+use, "behind-usher", command)
}

// TestProxyCommand has stock ssh reach sshd through usher, both ways.
func TestProxyCommand(t *testing.T) {
	p := newPlace(t)
	for _, fdpass := range []bool{false, true} {
		p.startSSHD(t)
		cmd := p.sshVia(t, "sshd", fdpass, "cat; echo done >&2; exit 7")
		var stderr strings.Builder
		cmd.Stdin, cmd.Stderr = strings.NewReader(strings.Repeat("x", 1<<20)), &stderr
		out, err := cmd.Output()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 7 || len(out) != 1<<20 || stderr.String() != "done\n" {
			t.Errorf("fdpass %v: %v, %d bytes, stderr %q; want exit code 7, all that was sent, and nothing of usher", fdpass, err, len(out), stderr.String())
		}
	}
}

// TestProxyFdpassLeaves: what ssh and sshd have is theirs alone. The backend has become sshd, usher
// has left, and the session goes on when the broker is gone.
func TestProxyFdpassLeaves(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	p.startSSHD(t)
	cmd := p.sshVia(t, "sshd", true, "cat")
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewReader(stdout)
	say := func(text string) {
		t.Helper()
		_, err := io.WriteString(stdin, text)
		must(t, err)
		if got, err := lines.ReadString('\n'); err != nil || got != text {
			t.Fatalf("read %q, %v", got, err)
		}
	}
	say("before\n")
	p.stopBroker()
	say("after\n")
	must(t, stdin.Close())
	must(t, cmd.Wait())
}

// TestProxyFails: ssh ends with its own code, and usher's words on standard error.
func TestProxyFails(t *testing.T) {
	p := newPlace(t)
	for _, fdpass := range []bool{false, true} {
		cmd := p.sshVia(t, "nobody", fdpass, "true")
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 255 || !strings.Contains(string(out), "usher: dial unix nobody@"+version+": refused by the broker") {
			t.Errorf("fdpass %v: %v, %s", fdpass, err, out)
		}
	}
}
