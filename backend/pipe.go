package backend

import (
	"errors"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/watch"
)

// pipe is the backend's own socket, and what keeps its name alive. Somebody may remove
// the name, or the whole directory (a cleaner of temporary files, the end of a login
// session): then nobody can dial it, and a broker that starts can't take this backend in.
// The loop is told by inotify, empties the old socket, has a new one bound, and has the
// broker told its path.
//
//	bound ──the name is gone──▶ lost ──bind──▶ bound
//	                             ▲ └─ it fails: again in checkEvery
//
// Everything here is the loop's. The binding itself is the Listener's: Addr and the
// registration ask for its path.
type pipe struct {
	acceptor *loop.Acceptor // of the binding's descriptor
	watch    *watch.Watch   // nil where there is none
	check    time.Time      // when to look at the name without being told; zero for not
	lost     bool           // emptied, and being bound anew
	fault    string         // why that fails
}

// checkEvery is how often the name is looked at where no watch tells, and how long a
// failed bind waits.
const checkEvery = time.Second

// newWatch is the seam to inotify, which a system may refuse.
var newWatch = watch.New

// listenOn makes the acceptor of a binding, which keeps the socket open for as long as
// the loop uses it.
func (l *Listener) listenOn(b *endpoint.Binding) error {
	from, err := b.Accepting()
	if err == nil {
		l.pipe.acceptor = loop.NewAcceptor(l.loop, from, l.acceptDialled)
	}
	return err
}

// openPipe serves the first binding.
func (l *Listener) openPipe() {
	w, err := newWatch()
	if err == nil {
		if err = l.loop.Add(w.Descriptor(), l.pipeEvent); err == nil {
			l.pipe.watch = w
		} else {
			w.Close()
		}
	}
	if err != nil {
		l.opts.Logger.Info("no watch on the backend pipe: its name is looked at every second", "error", err)
	}
	l.watchPipe()
	l.checkPipe()
}

// closePipe ends the watch. The binding is closed by close.
func (l *Listener) closePipe() {
	if l.pipe.watch != nil {
		l.loop.Remove(l.pipe.watch.Descriptor())
		l.pipe.watch.Close()
		l.pipe.watch = nil
	}
}

// watchPipe has the loop accept.
func (l *Listener) watchPipe() {
	if !l.closing && !l.pipe.lost {
		l.pipe.acceptor.Start() // an Accept that made room may have asked for it already
	}
}

// pipeEvent looks at the name when something has happened on the way to it.
func (l *Listener) pipeEvent() {
	if l.pipe.watch.Changed() {
		l.checkPipe()
		select { // the broker's name is on the same watch
		case l.look <- struct{}{}:
		default: // is told already
		}
	}
}

// checkPipe looks at the name, and has it bound anew if it is gone. The watch is renewed
// first: what happens after the look is told.
func (l *Listener) checkPipe() {
	if l.closing || l.pipe.lost {
		return
	}
	binding := l.binding.Load()
	watched := l.pipe.watch != nil && l.pipe.watch.Add(binding.Path) == nil
	l.brokerWatched.Store(watched && l.pipe.watch.AddName(l.opts.Broker) == nil)
	if errors.Is(binding.Check(), endpoint.ErrReplaced) {
		l.losePipe(binding)
		return
	}
	l.pipe.check = time.Time{}
	if !watched {
		l.checkLater()
	}
}

func (l *Listener) checkLater() {
	l.pipe.check = time.Now().Add(checkEvery)
	l.loop.WakeAt(l.pipe.check)
}

// losePipe takes in who has found the old name, and binds anew.
func (l *Listener) losePipe(old *endpoint.Binding) {
	l.opts.Logger.Warn("the backend pipe was removed or replaced: binding anew", "pipe", old.Path)
	l.emptyPipe()
	l.pipe.lost, l.pipe.check = true, time.Time{} // bound says when to look again
	l.bindAnew(old)
}

// bindAnew does on a goroutine of its own what asks the file system. The old binding goes
// first: it holds the lock of a chosen path.
func (l *Listener) bindAnew(old *endpoint.Binding) {
	l.wg.Go(func() {
		_ = old.Close()
		b, err := endpoint.BindBackend(l.opts.Pipe)
		if !l.loop.Post(func() { l.bound(b, err) }) && err == nil {
			_ = b.Close()
		}
	})
}

// bound serves the new binding, or tries again later.
func (l *Listener) bound(b *endpoint.Binding, err error) {
	if err == nil {
		if err = l.listenOn(b); err != nil {
			_ = b.Close()
		}
	}
	if err != nil {
		if l.pipe.fault != err.Error() { // one line, however long it lasts
			l.pipe.fault = err.Error()
			l.opts.Logger.Warn("the backend pipe can't be bound; trying again every second", "error", err)
		}
		l.checkLater()
		return
	}
	l.pipe.fault = ""
	l.binding.Store(b)
	l.pipe.lost = false
	if l.closing {
		l.emptyPipe()
		return
	}
	l.watchPipe()
	l.checkPipe()
	select {
	case l.renew <- struct{}{}:
	default: // is told already
	}
}

// tickPipe does what is due for the pipe, and returns what is due next.
func (l *Listener) tickPipe(now time.Time) (next time.Time) {
	p := &l.pipe
	if !p.check.IsZero() && !now.Before(p.check) {
		p.check = time.Time{}
		switch {
		case l.closing:
		case p.lost:
			l.bindAnew(l.binding.Load())
		default:
			l.checkPipe()
		}
	}
	return loop.Earlier(p.acceptor.Tick(now), p.check)
}

// acceptDialled accepts one connection of a client that dialled the pipe. While
// nobody accepts, clients wait in the kernel's queue.
func (l *Listener) acceptDialled() {
	if l.queue.pause() {
		l.pipe.acceptor.Stop()
		return
	}
	c, err := l.pipe.acceptor.Accept()
	switch {
	case err == nil:
		l.pipe.acceptor.Accepted()
		l.admit(c)
	case errors.Is(err, errno.EAGAIN):
	default: // a full descriptor table passes
		l.opts.Logger.Warn("accept on backend pipe failed", "error", err)
		l.pipe.acceptor.Pause()
	}
}

// emptyPipe accepts what the kernel has queued. Nobody can come in behind: from the
// shutdown on the kernel refuses them, those that have found the name before included.
func (l *Listener) emptyPipe() {
	if l.pipe.lost {
		return
	}
	l.pipe.acceptor.Stop()
	if err := l.pipe.acceptor.Shutdown(); err != nil {
		l.opts.Logger.Warn("backend pipe can't be shut down", "error", err)
	}
	for {
		c, err := l.pipe.acceptor.Accept()
		switch {
		case err == nil:
			l.admit(c)
			continue
		case !errors.Is(err, errno.EAGAIN) && !errors.Is(err, syscall.EINVAL): // EINVAL: empty, and shut down
			l.opts.Logger.Warn("connections on the backend pipe are lost", "error", err)
		}
		return
	}
}
