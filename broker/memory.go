package broker

import (
	"context"
	"sync"
	"time"

	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/stamp"
	"github.com/seed-7265657e/usher/internal/watch"
)

// facts are what files say about a service, and what follows from it. The errors
// are judged in their order by match.
type facts struct {
	definition  *service.Definition
	instance    string
	instanceErr error
	handoff     service.HandoffPolicy
	handoffErr  error
	build       [32]byte // BLAKE3 of the file at binary_path; zero when unreadable
	buildErr    error
}

// look reads the files.
func (b *Broker) look(ctx context.Context, name string) (*facts, *hello.Refusal) {
	d, refusal := b.define(name)
	if refusal != nil {
		return nil, refusal
	}
	f := &facts{definition: d}
	instance, err := d.Instance()
	f.instance, f.instanceErr = instance.String(), err
	f.handoff, f.handoffErr = d.HandoffPolicy()
	f.build, f.buildErr = b.hashes.Hash(ctx, d.BinaryPath)
	return f, nil
}

// memory holds facts for as long as their files are unchanged, so that a Hello
// costs no reading. What changes on disk holds from the next Hello on: the files,
// and the ways to them, are watched, and whenever anything happened there, stat
// says whether it concerns the service. What no watch tells (see package watch)
// holds within recheck.
type memory struct {
	dir     string
	watch   *watch.Watch // nil where there is none: then stat is asked each time
	changes uint64       // how often the watch has told of something, and one; the loop's

	mu    sync.RWMutex
	known map[string]*remembered
}

const (
	// maxRemembered bounds the memory; a full one starts over.
	maxRemembered = 1024
	recheck       = 100 * time.Millisecond
)

type remembered struct {
	facts
	dir, file, binary stamp.Stamp

	// The loop's.
	checked time.Time // when stat last agreed
	changes uint64    // at the last attempt to watch
	watched bool      // it succeeded
}

// open begins to watch. Without a watch everything works, more slowly.
func (m *memory) open() (err error) {
	m.changes = 1
	m.watch, err = watch.New()
	return err
}

func (m *memory) close() {
	if m.watch != nil {
		m.watch.Close()
		m.watch = nil
	}
}

// recall returns what is remembered and still true, or nil. It reads no file, and
// asks no file system that might not answer. It runs on the loop.
func (m *memory) recall(name string, now time.Time) *facts {
	m.mu.RLock()
	r := m.known[name]
	m.mu.RUnlock()
	if r == nil {
		return nil
	}
	if m.watch != nil && m.watch.Changed() {
		m.changes++
	}
	switch {
	case r.changes != m.changes: // watch again before stat is asked, so that nothing falls between
		r.changes = m.changes
		r.watched = m.watch != nil && m.watch.Add(m.dir, r.definition.Path, r.definition.BinaryPath) == nil
	case r.watched && now.Sub(r.checked) < recheck:
		return &r.facts
	}
	if stamp.Of(m.dir) != r.dir || stamp.Of(r.definition.Path) != r.file || stamp.Of(r.definition.BinaryPath) != r.binary {
		m.forget(name, r)
		return nil
	}
	r.checked = now
	return &r.facts
}

// forget drops what was found out of date: it must not be taken for true again, by a
// Hello that comes before stat is to be asked the next time.
func (m *memory) forget(name string, r *remembered) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known[name] == r {
		delete(m.known, name)
	}
}

// remember keeps f, which was read after began, when its files had settled by then
// and lie on this machine.
func (m *memory) remember(name string, f *facts, began time.Time) {
	binary := f.definition.BinaryPath
	r := &remembered{facts: *f, dir: stamp.Of(m.dir), file: stamp.Of(f.definition.Path), binary: stamp.Of(binary)}
	if f.buildErr != nil || !r.dir.Settled(began) || !r.file.Settled(began) || !r.binary.Settled(began) {
		return
	}
	if !stamp.Local(m.dir) || !stamp.Local(f.definition.Path) || !stamp.Local(binary) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil || len(m.known) >= maxRemembered {
		m.known = make(map[string]*remembered)
	}
	m.known[name] = r
}
