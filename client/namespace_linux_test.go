package client_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// socketEnv names the broker's socket for converseWithService.
const socketEnv = "USHER_TEST_SOCKET"

// converseWithService is a helper process: a client that says hello to the service.
func converseWithService() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := client.DialWith(ctx, options(os.Getenv(socketEnv)), []byte("ping"))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, err = io.Copy(os.Stdout, c)
	return err
}

// TestClientInAnotherPIDNamespace: a client of the same user is served whatever it
// takes its own pid for, as it is in a container.
func TestClientInAnotherPIDNamespace(t *testing.T) {
	testutil.Leaks(t)
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("no unshare command to make a pid namespace with:", err)
	}
	namespaces := []string{unshare, "--user", "--map-root-user", "--pid", "--fork", "--kill-child"}
	if out, err := exec.Command(namespaces[0], append(namespaces[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("this system makes no pid namespace for this user: %v: %s", err, out)
	}
	socket, ln := real(t)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, early(c, 4)+" pong")
			_ = c.Close()
		}
	}()
	cmd := testutil.Helper(t, "converse")
	cmd.Args = append(append([]string(nil), namespaces...), cmd.Path)
	cmd.Path = unshare
	cmd.Env = append(cmd.Env, socketEnv+"="+socket)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if string(out) != "ping pong" || err != nil {
		t.Errorf("the client was told %q, %v: %s", out, err, &complaint)
	}
}

// TestClientInAUserNamespaceIsToldWhatToSet: with another user id it can't know the name
// of the broker's socket.
func TestClientInAUserNamespaceIsToldWhatToSet(t *testing.T) {
	testutil.Leaks(t)
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("no unshare command to make a user namespace with:", err)
	}
	namespace := []string{unshare, "--user", "--map-user=4321"}
	if out, err := exec.Command(namespace[0], append(namespace[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("this system makes no user namespace for this user: %v: %s", err, out)
	}
	cmd := testutil.Helper(t, "converse")
	cmd.Args = append(append([]string(nil), namespace...), cmd.Path)
	cmd.Path = unshare
	cmd.Env = append(cmd.Env, socketEnv+"=", "RUNNING_PROCESS_BROKER_V1_SOCKET=", "XDG_RUNTIME_DIR="+testutil.SocketDir(t))
	var complaint strings.Builder
	cmd.Stderr = &complaint
	const want = "RUNNING_PROCESS_BROKER_V1_SOCKET is not set, and in this user namespace you are user 4321"
	if err := cmd.Run(); err == nil || !strings.Contains(complaint.String(), want) {
		t.Errorf("%v: %s; want %q", err, &complaint, want)
	}
}
