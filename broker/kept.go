package broker

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/seed-7265657e/usher/internal/logfile"
	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/stamp"
)

// A service whose program has a process for each connection has its executable and its log
// open from one connection to the next: to find and open them costs more calls than all the
// rest of a start.

// kept is such a pair. Whoever has one releases it; the last closes the files.
type kept struct {
	program program // that has been opened, and judged
	log     *os.File
	path    string      // of log
	stamp   stamp.Stamp // of log
	local   bool        // asking for log waits for this machine alone
	holders atomic.Int32

	// Of the loop:
	of   *service.Definition // what it was opened for; another one is opened anew
	era  uint64              // of of's files, before the way to program was last gone
	used time.Time
}

// lent is what a connection gets of what is kept. Whoever has it releases it.
type lent struct {
	kept  *kept  // nil where nothing is
	era   uint64 // of the files, now
	still bool   // the path leads where it led: else the watch had told
}

func newKept(p *program, log *os.File, path string) *kept {
	k := &kept{program: *p, log: log, path: path, local: stamp.Local(path)}
	if k.local {
		k.stamp = stamp.OfFile(log) // path may lead to another by now
	}
	k.holders.Store(1)
	return k
}

func (k *kept) share() *kept {
	k.holders.Add(1)
	return k
}

// release gives k, which may be nil, up.
func (k *kept) release() {
	if k != nil && k.holders.Add(-1) == 0 {
		k.program.close()
		_ = k.log.Close()
	}
}

// logged returns where the log ends now, if it is still the one that is open, and is not to be
// moved away before it is used.
func (k *kept) logged() (end int64, ok bool) {
	if !k.local {
		return 0, false
	}
	now := stamp.Of(k.path)
	return now.Size(), now.SameFile(k.stamp) && now.Size() <= logfile.Max
}

// found reports whether path leads to the executable as when that was opened: another name of
// the same file may be another version, which looks for its own files beside.
func (l lent) found(path string) bool {
	if l.still {
		return true
	}
	at, err := filepath.EvalSymlinks(path)
	return err == nil && at == l.kept.program.path
}

// openKept opens the program and its log, or takes them from open. The caller releases what it
// returns, which has p's file.
func (j launching) openKept(ctx context.Context, p *program, open lent) (launched, *kept, error) {
	l := launched{program: p, log: filepath.Join(j.logDir, logName(j.service, j.variant))}
	if k := open.kept; k != nil && k.path == l.log && open.found(p.path) {
		if end, ok := k.logged(); ok {
			from := &k.program
			p.path, p.name, p.named, p.build, p.script, p.file = from.path, from.name, from.named, from.build, from.script, from.file
			l.from = end
			return l, k.share(), nil
		}
	}
	l, log, err := j.open(ctx, p)
	if err != nil {
		p.close()
		return l, nil, err
	}
	return l, newKept(p, log, l.log), nil
}

const (
	// mostKept bounds the services with something kept, and keptFor the time for which
	// nobody uses it.
	mostKept = 16
	keptFor  = 10 * time.Second
)

// takeKept lends what is kept for t.
func (s *server) takeKept(t *target) lent {
	l := lent{era: s.definitions.era(t.key.Service, t.definition)}
	switch k := s.kept[t.key.Service]; {
	case k == nil:
	case k.of != t.definition:
		s.dropKept(t.key.Service)
	default:
		k.used = time.Now()
		l.kept, l.still = k.share(), l.era != 0 && l.era == k.era
	}
	return l
}

// keep takes what a connection of t was served with, which may be nil, for the next one, where
// it can be known by then that it is still what t's definition means. era is what takeKept
// said.
func (s *server) keep(t *target, k *kept, era uint64) {
	name := t.key.Service
	if k == nil || !k.local || k.program.preferred != "" || !s.definitions.holds(name, t.definition) {
		k.release()
		return
	}
	s.dropKept(name)
	if len(s.kept) >= mostKept {
		k.release()
		return
	}
	k.of, k.era, k.used = t.definition, era, time.Now()
	s.kept[name] = k
	s.loop.WakeAt(k.used.Add(keptFor))
}

func (s *server) dropKept(service string) {
	s.kept[service].release()
	delete(s.kept, service)
}

// tickKept drops what nobody has used for long, and returns when it wants to look again.
func (s *server) tickKept(now time.Time) (next time.Time) {
	for name, k := range s.kept {
		if due := k.used.Add(keptFor); now.Before(due) {
			next = loop.Earlier(next, due)
		} else {
			s.dropKept(name)
		}
	}
	return next
}
