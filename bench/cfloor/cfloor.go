// Package cfloor builds and runs the cost floor of a handoff: the same exchange in
// C (src/cfloor.c), on the same wire, so that the same client can be pointed at both.
package cfloor

import (
	"context"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/wire"
	"github.com/seed-7265657e/usher/internal/world"
)

//go:embed src/cfloor.c
var source []byte

// ErrNoCompiler says that this system has no C compiler.
var ErrNoCompiler = errors.New("no C compiler found: install one (cc, gcc or clang) to measure the C floor")

const buildTimeout = time.Minute

// Build compiles the program into dir and returns its path. Errors:
// ErrNoCompiler.
func Build(ctx context.Context, dir string) (program string, err error) {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	compiler := ""
	for _, name := range []string{"cc", "gcc", "clang"} {
		if compiler, err = exec.LookPath(name); err == nil {
			break
		}
	}
	if compiler == "" {
		return "", ErrNoCompiler
	}
	file := filepath.Join(dir, "cfloor.c")
	if err := os.WriteFile(file, source, 0o600); err != nil {
		return "", err
	}
	program = filepath.Join(dir, "cfloor")
	if out, err := exec.CommandContext(ctx, compiler, "-std=c11", "-O2", "-o", program, file).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the C floor with %s: %w\n%s", compiler, err, out)
	}
	return program, nil
}

// Floor is the running program: a broker and a backend process.
type Floor struct {
	*world.Process
	Socket, Pipe          string
	BrokerPID, BackendPID int
}

// Claims is how the exchange decides who owns a connection.
type Claims string

const (
	// Page is usher's own exchange: claim and ACK in a page of shared memory.
	Page Claims = "page"
	// Descriptors is the exchange with a backend that does not ask for the page: the
	// claim is an eventfd, the ACK a message.
	Descriptors Claims = "descriptors"
)

// Start runs the program in w. The caller quits the Floor, which ends both
// processes.
func Start(ctx context.Context, w *world.World, program string, claims Claims) (*Floor, error) {
	f := &Floor{Socket: w.Path("cfloor.sock"), Pipe: w.Path("cfloor-pipe.sock")}
	reply, notoken, err := templates(f.Pipe)
	if err != nil {
		return nil, err
	}
	_ = os.Remove(f.Socket) // of an earlier run in the same place
	_ = os.Remove(f.Pipe)
	f.Process, err = w.Start(world.Command{
		Name: "C floor", Stderr: os.Stderr,
		Args: []string{program, f.Socket, f.Pipe, hex.EncodeToString(reply), hex.EncodeToString(notoken), string(claims)},
	})
	if err != nil {
		return nil, err
	}
	var pids [2]int
	if err := f.Line(ctx, &pids); err != nil {
		return nil, err
	}
	f.BrokerPID, f.BackendPID = pids[0], pids[1]
	return f, nil
}

// templates are what the two processes write, with a placeholder for the token.
func templates(pipe string) (reply, notoken []byte, err error) {
	token := slices.Repeat([]byte{'T'}, 16)
	request := frame.Request(frame.Control, 1, nil)
	grant := func(token []byte) *wire.Frame {
		return hello.ReplyFrame(request, hello.Grant{
			Version: "1.0.0", BackendPipe: pipe, ServerCapabilities: frame.CapUsher, Token: token, ConnectionID: 1,
		}.Reply())
	}
	if notoken, err = frame.Append(nil, grant(nil)); err != nil {
		return nil, nil, err
	}
	if reply, err = frame.Append(nil, grant(token)); err != nil {
		return nil, nil, err
	}
	reply, err = frame.Append(reply, frame.HandoffReady(token, 1))
	return reply, notoken, err
}
