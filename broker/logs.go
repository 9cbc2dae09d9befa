package broker

import (
	"errors"
	"time"

	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/logfile"
	"github.com/seed-7265657e/usher/internal/registry"
	"github.com/seed-7265657e/usher/internal/watch"
)

// logs are the files that the instances which were started here write to by themselves.
// The kernel tells that one is being written; a second later all are looked at, and those
// beyond their bound are moved away. Who writes nothing costs nothing. Where files can't be
// watched, all are looked at every second while an instance logs.
//
//	quiet ──a write──▶ written ──lookEvery──▶ looked at, and quiet
//
// It is the loop's. A look is a job.
type logs struct {
	watch   *watch.Watch    // nil until an instance is started
	writers map[string]int  // by path, how many instances log there
	given   map[string]bool // to a successor, which alone bounds them from then on
	lookAt  time.Time       // zero while quiet
	problem string          // what was said last
}

// lookEvery is how often the size of logs is looked at while they are written.
const lookEvery = time.Second

// watchLog keeps the log at path within its bound until unwatchLog.
func (s *server) watchLog(path string) {
	if s.logs.given[path] {
		return
	}
	if s.logs.writers[path]++; s.logs.writers[path] > 1 {
		return
	}
	err := s.openLogWatch()
	if err == nil {
		err = s.logs.watch.AddContent(path)
	}
	switch {
	case errors.Is(err, errors.ErrUnsupported): // nothing tells on this system
		s.logs.lookAt = time.Now().Add(lookEvery)
		s.loop.WakeAt(s.logs.lookAt)
	case err != nil:
		s.logUnbounded(path, err)
	default:
		s.logsWritten() // what came before the watch
	}
}

func (s *server) openLogWatch() error {
	if s.logs.watch != nil {
		return nil
	}
	w, err := watch.New()
	if err != nil {
		return err
	}
	if err := s.loop.Add(w.Descriptor(), s.logsWritten); err != nil {
		w.Close()
		return err
	}
	s.logs.watch = w
	return nil
}

// unwatchLog notes that an instance which logged to path has ended, after a last look.
func (s *server) unwatchLog(path string) {
	if s.logs.given[path] {
		return
	}
	if s.logs.writers[path]--; s.logs.writers[path] > 0 {
		return
	}
	s.dropLog(path)
	s.boundLogs(path)
}

func (s *server) dropLog(path string) {
	delete(s.logs.writers, path)
	if s.logs.watch != nil {
		s.logs.watch.RemoveContent(path)
	}
}

// giveLog leaves the log at path, which may be empty, to a successor, for all who write there:
// what two move away at once is lost.
func (s *server) giveLog(path string) {
	if path == "" || s.logs.given[path] {
		return
	}
	if s.logs.given == nil {
		s.logs.given = make(map[string]bool)
	}
	s.logs.given[path] = true
	if s.logs.writers[path] > 0 {
		s.dropLog(path)
	}
}

// logsWritten has the logs looked at in a moment. Until then nothing is told.
func (s *server) logsWritten() {
	if !s.logs.lookAt.IsZero() {
		return
	}
	s.loop.Remove(s.logs.watch.Descriptor())
	s.logs.lookAt = time.Now().Add(lookEvery)
	s.loop.WakeAt(s.logs.lookAt)
}

// tickLogs looks when it is time, and returns when that is.
func (s *server) tickLogs(now time.Time) (next time.Time) {
	if s.logs.lookAt.IsZero() || now.Before(s.logs.lookAt) {
		return s.logs.lookAt
	}
	s.logs.lookAt = time.Time{}
	if s.logs.watch != nil {
		s.logs.watch.Changed() // what is written behind this is told
	}
	paths := make([]string, 0, len(s.logs.writers))
	for path := range s.logs.writers {
		paths = append(paths, path)
	}
	s.boundLogs(paths...)
	switch {
	case s.logs.watch == nil && len(paths) > 0:
		s.logs.lookAt = now.Add(lookEvery)
		return s.logs.lookAt
	case s.logs.watch == nil:
		return time.Time{}
	}
	if err := s.loop.Add(s.logs.watch.Descriptor(), s.logsWritten); err != nil {
		s.logUnbounded("", err)
	}
	return time.Time{}
}

// boundLogs is the job.
func (s *server) boundLogs(paths ...string) {
	if s.jobs.work.Err() != nil { // the next broker starts with a look
		return
	}
	s.jobs.readers.Go(func() {
		for _, path := range paths {
			if err := logfile.Bound(path, logfile.Max); err != nil {
				s.jobs.post(func() { s.logUnbounded(path, err) })
			}
		}
	})
}

// logUnbounded says what is new.
func (s *server) logUnbounded(path string, err error) {
	if s.logs.problem != err.Error() {
		s.logs.problem = err.Error()
		s.emit(event.LogUnbounded{Log: path, Problem: err.Error()})
	}
}

// close ends the watch, when the loop has ended.
func (l *logs) close() {
	if l.watch != nil {
		l.watch.Close()
		l.watch = nil
	}
}

// logsInUse are the logs of the instances of a service.
func (s *server) logsInUse(service string) map[string]bool {
	names := make(map[string]bool)
	add := func(key registry.Key) {
		if key.Service == service {
			names[logName(service, key.Variant)] = true
		}
	}
	for _, e := range s.backends.All() {
		add(e.Key)
	}
	for e := range s.leaving {
		add(e.Key)
	}
	for key := range s.starts.pending {
		add(key)
	}
	return names
}
