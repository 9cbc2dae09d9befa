package eventlog

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/logfile"
	"github.com/seed-7265657e/usher/internal/window"
	"github.com/seed-7265657e/usher/internal/wire"
)

// Writer keeps events in a file. Its goroutine writes; whoever notes a fact never waits
// for it. A file that can't be written costs its events, and nothing else.
//
//	open ──Close──▶ what is noted is written ──▶ closed
type Writer struct {
	path, instance string
	pid            int
	log            *slog.Logger

	// These are of the goroutine that notes.
	letGo  map[int]string // why instances were let go, by their pid
	second int64          // now, as a Unix time
	noted  int            // what peers have caused in it
	each   *window.Counter[string]

	queue chan *wire.LifecycleEvent
	lost  atomic.Uint64 // had no place in the queue
	done  chan struct{} // closed when the goroutine has ended
}

const (
	// maxQueued bounds the events that are not written yet.
	maxQueued = 1024
	// maxAtWill is how many of the events that peers can cause at will are kept of each
	// second: a flood must not drive the others out of the file.
	maxAtWill = 100
	// maxPerConnection is how many of those of which there is one with each connection are
	// kept of each eachWindow: of a service that starts a process for each, a day must not
	// drive out the day before.
	maxPerConnection = 16
	eachWindow       = time.Minute
)

// NewWriter begins to keep the events of a broker's instance in the file at path, which
// is opened by the first one. The caller closes the Writer.
func NewWriter(path, instance string, log *slog.Logger) *Writer {
	w := &Writer{
		path: path, instance: instance, pid: os.Getpid(), log: log, letGo: make(map[int]string),
		each:  window.New[string](eachWindow),
		queue: make(chan *wire.LifecycleEvent, maxQueued), done: make(chan struct{}),
	}
	go w.run()
	return w
}

// FileName is the file's name in the directory of a broker's instance.
const FileName = "events"

// Path is the file of a broker's instance, by its name. Errors: no home directory, or
// *endpoint.VariableError.
func Path(instance string) (string, error) {
	dir, err := endpoint.InstanceStateDir(instance)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, FileName), nil
}

// Note takes a fact in, if it is one of those that are kept, and never blocks. It is
// called by one goroutine, and not behind Close.
func (w *Writer) Note(e event.Event) {
	if atWill(e) && !w.room(time.Now()) {
		w.lost.Add(1)
		return
	}
	if key := perConnection(e); key != "" {
		if _, ok := w.each.Allow(key, maxPerConnection, time.Now()); !ok {
			w.lost.Add(1)
			return
		}
	}
	r := w.judge(e)
	if r == nil {
		return
	}
	r.TsMs, r.BrokerInstance = uint64(time.Now().UnixMilli()), w.instance
	select {
	case w.queue <- r:
	default:
		w.lost.Add(1)
	}
}

// room reports whether one more fact that peers have caused is kept of this second.
func (w *Writer) room(now time.Time) bool {
	if second := now.Unix(); second != w.second {
		w.second, w.noted = second, 0
	}
	w.noted++
	return w.noted <= maxAtWill
}

// Close has what was noted written, and waits for that, at most for patience: a file
// system may never answer.
func (w *Writer) Close(patience time.Duration) {
	close(w.queue)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C:
	}
}

// run is the goroutine.
func (w *Writer) run() {
	defer close(w.done)
	var to *logfile.Writer
	said := ""
	for r := range w.queue {
		err := w.write(&to, r)
		if lost := w.lost.Swap(0); err == nil && lost > 0 {
			err = w.write(&to, w.missing(lost))
		}
		if err == nil {
			said = ""
		} else if said != err.Error() { // one line, however long it lasts
			said = err.Error()
			w.log.Warn("events are not kept", "error", err)
		}
	}
	if lost := w.lost.Swap(0); lost > 0 {
		_ = w.write(&to, w.missing(lost))
	}
	if to != nil {
		_ = to.Close()
	}
}

// write opens the file where that has not been possible before.
func (w *Writer) write(to **logfile.Writer, r *wire.LifecycleEvent) (err error) {
	if *to == nil {
		if *to, err = logfile.NewWriter(w.path, maxFile); err != nil {
			*to = nil
			return err
		}
	}
	_, err = (*to).Write(encode(r))
	return err
}

// missing says that so many events are not in the file.
func (w *Writer) missing(n uint64) *wire.LifecycleEvent {
	r := record("events.lost", wire.EventKind_RESOURCE_PRESSURE, warning, event.Backend{PID: w.pid}, fmt.Sprintf("%d events around this one are not kept", n))
	r.TsMs, r.BrokerInstance = uint64(time.Now().UnixMilli()), w.instance
	add(r, extraCount, strconv.FormatUint(n, 10))
	return r
}
