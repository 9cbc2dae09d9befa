package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-7265657e/usher/internal/filehash"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/stamp"
)

// files is what jobs read definitions and executables with. The cache of hashes is
// shared by all jobs, and has a lock of its own: two that want the same file read it once.
type files struct {
	dir    string
	hashes *filehash.Cache
}

// definition is what files say about a service, and what follows from it. The errors
// are judged in their order by match. It does not change.
type definition struct {
	service     *service.Definition
	instance    string
	instanceErr error
	handoff     service.HandoffPolicy
	handoffErr  error
	build       [32]byte // BLAKE3 of the file at binary_path; zero when unreadable
	buildErr    error

	start    *service.StartPolicy // nil where the broker starts no instance
	startErr error

	// Of a client's own build:
	variant string
	program *program
	own     *ownInstance
}

// starts reports whether an instance can be started where none runs.
func (d *definition) starts() bool { return d.program != nil || d.start != nil }

// close gives up a program that was not started. It may be called on nil.
func (d *definition) close() {
	if d != nil && d.program != nil {
		d.program.close()
		d.program = nil
	}
}

// reading is the result of a job that has read a definition.
type reading struct {
	definition *definition
	cacheable  *cached // nil when it must be read again the next time
	err        error
}

// read reads what files say about a service.
func (f files) read(ctx context.Context, name string) reading {
	began := time.Now()
	d, err := f.define(ctx, name)
	if err != nil {
		return reading{err: err}
	}
	return reading{definition: d, cacheable: f.cacheable(d, began)}
}

func (f files) define(ctx context.Context, name string) (*definition, error) {
	loaded, err := service.Load(f.dir, name)
	if err != nil {
		return nil, err
	}
	d := &definition{service: loaded}
	instance, err := loaded.Instance()
	d.instance, d.instanceErr = instance.String(), err
	d.handoff, d.handoffErr = loaded.HandoffPolicy()
	d.start, d.startErr = loaded.StartPolicy()
	d.build, d.buildErr = f.hashes.Hash(ctx, loaded.BinaryPath)
	return d, nil
}

// cacheable is d for the cache, when its files had settled by the time at which reading
// began, and lie on this machine.
func (f files) cacheable(d *definition, began time.Time) *cached {
	binary := d.service.BinaryPath
	c := &cached{definition: d, dir: stamp.Of(f.dir), file: stamp.Of(d.service.Path), binary: stamp.Of(binary)}
	if d.buildErr != nil || !c.dir.Settled(began) || !c.file.Settled(began) || !c.binary.Settled(began) {
		return nil
	}
	if !stamp.Local(f.dir) || !stamp.Local(d.service.Path) || !stamp.Local(binary) {
		return nil
	}
	return c
}

// unreadable is the refusal when a definition can't be read.
func unreadable(err error) *hello.Refusal {
	var invalid *names.InvalidError
	switch {
	case errors.As(err, &invalid):
		return hello.InvalidServiceName()
	case errors.Is(err, service.ErrNotFound):
		return hello.ServiceNotFound()
	case noDescriptor(err): // nothing is wrong with the definition
		return hello.FDPressure()
	case errors.Is(err, errOwnBuild):
		return hello.OwnBuildRefused(err)
	}
	return hello.ServiceUnloadable(err)
}

// untilDrain is the context for reading whole files on a connection's behalf: its job's,
// ended at the connection's deadline, and at once when the broker begins to drain: a
// large file must not keep it.
func untilDrain(job context.Context, deadline time.Time, serving context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithDeadline(job, deadline)
	stop := context.AfterFunc(serving, cancel)
	return ctx, func() { stop(); cancel() }
}

// executable returns path and hash of what the process runs, read while the
// process was certainly alive. Reading ends with ctx, and with the process.
func (f files) executable(ctx context.Context, p *peer.Process) (path string, hash [32]byte, err error) {
	path, link, err := p.Executable()
	if err != nil {
		return "", hash, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // until the return
		if p.Wait(ctx) == nil {
			cancel()
		}
	}()
	hash, err = f.hashes.Hash(ctx, link)
	gone := p.Confirm(path)
	switch {
	case gone != nil:
		return "", hash, fmt.Errorf("process %d: %w", p.PID(), gone)
	case err != nil:
		return "", hash, fmt.Errorf("executable %s of process %d: %w", path, p.PID(), err)
	}
	return path, hash, nil
}
