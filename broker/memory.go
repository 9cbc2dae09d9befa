package broker

import (
	"sync"
	"time"

	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/stamp"
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
func (b *Broker) look(name string) (*facts, *hello.Refusal) {
	d, refusal := b.define(name)
	if refusal != nil {
		return nil, refusal
	}
	f := &facts{definition: d}
	instance, err := d.Instance()
	f.instance, f.instanceErr = instance.String(), err
	f.handoff, f.handoffErr = d.HandoffPolicy()
	f.build, f.buildErr = b.hashes.Hash(d.GetBinaryPath())
	return f, nil
}

// memory holds facts for as long as stat shows their files unchanged, so that a
// Hello costs three of them and no reading. What changes on disk holds from the
// next Hello on.
type memory struct {
	dir string

	mu    sync.RWMutex
	known map[string]*remembered
}

// maxRemembered bounds the memory; a full one starts over.
const maxRemembered = 1024

type remembered struct {
	facts
	dir, file, binary stamp.Stamp
}

// recall returns what is remembered and still true, or nil. It reads no file, and
// asks no file system that might not answer.
func (m *memory) recall(name string) *facts {
	m.mu.RLock()
	r := m.known[name]
	m.mu.RUnlock()
	if r == nil || stamp.Of(m.dir) != r.dir || stamp.Of(r.definition.Path) != r.file || stamp.Of(r.definition.GetBinaryPath()) != r.binary {
		return nil
	}
	return &r.facts
}

// remember keeps f, which was read after began, when its files had settled by then
// and lie on this machine.
func (m *memory) remember(name string, f *facts, began time.Time) {
	binary := f.definition.GetBinaryPath()
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
