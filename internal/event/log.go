package event

import (
	"context"
	"log/slog"
)

// Log writes facts as lines of a log. Those that peers can cause at will are for the
// logger's handler to limit (package loglimit).
type Log struct {
	to    *slog.Logger
	debug bool // somebody reads what is below slog.LevelInfo
}

// NewLog writes to a logger.
func NewLog(to *slog.Logger) Log {
	return Log{to, to.Enabled(context.Background(), slog.LevelDebug)}
}

// Debug reports whether somebody reads the lines that are for finding faults alone.
func (l Log) Debug() bool { return l.debug }

// Note writes the line of a fact, if it has one.
func (l Log) Note(e Event) {
	switch e := e.(type) {
	case Serving:
		l.info(e.Name(), "serving", slog.String("socket", e.Socket), slog.String("definitions", e.Definitions))
	case Draining:
		l.info(e.Name(), "draining", slog.String("cause", e.Cause), slog.Int("connections", e.Connections))
	case DrainTimeout:
		l.warn(e.Name(), "drain timeout: closing connections without a verdict", slog.Int("connections", e.Connections))
	case Stopped:
		l.info(e.Name(), "stopped")
	case LoopFailed:
		l.error(e.Name(), "event loop ended", problem(e.Problem))
	case FilesHang:
		l.warn(e.Name(), "a file system does not answer: ending without those who wait for it")
	case Unwatched:
		l.info(e.Name(), "no watch on files: each Hello asks stat", problem(e.Problem))
	case SocketUnwatched:
		l.info(e.Name(), "no watch on the socket: its name is looked at every second", problem(e.Problem))
	case SocketReplaced:
		l.error(e.Name(), "socket file removed or replaced: stopping", problem(e.Problem))
	case SocketUnknown:
		l.warn(e.Name(), "the socket's name can't be looked at; serving on", problem(e.Problem))
	case SocketKnown:
		l.info(e.Name(), "the socket's name leads here again")
	case SocketKept:
		l.warn(e.Name(), "the socket's name is still there; connections to it wait in vain until the end", problem(e.Problem))
	case Listening:
		l.info(e.Name(), "listening for a service", slog.String("service", e.Service), slog.String("socket", e.Path))
	case ListenFailed:
		l.warn(e.Name(), "can't listen for a service; trying again", slog.String("service", e.Service), slog.String("socket", e.Path), problem(e.Problem))
	case ListenEnded:
		l.info(e.Name(), "no longer listening for a service", slog.String("service", e.Service), slog.String("socket", e.Path))
	case PipesRemoved:
		l.info(e.Name(), "removed the pipes of backends that are gone", slog.Int("pipes", e.Pipes))
	default:
		l.noteConnection(e)
	}
}

func (l Log) noteConnection(e Event) {
	switch e := e.(type) {
	case AcceptFailed:
		if !e.Again { // one line, however long it lasts
			l.warn(e.Name(), "accept fails; trying again until it succeeds", problem(e.Problem), slog.Duration("every", e.Every))
		}
	case PeerDropped:
		l.warn(e.Name(), "peer dropped", problem(e.Problem))
	case Refused:
		if !e.Unread {
			l.info(e.Name(), "refused", slog.String("code", e.Code), slog.String("reason", e.Reason), slog.Int("peer_pid", e.PID))
		}
	case ClientGone:
		if l.debug {
			l.line(slog.LevelDebug, e.Name(), "client gone before its answer", slog.Int("peer_pid", e.PID))
		}
	case AnswerLost:
		l.info(e.Name(), "answer not written", slog.Int("peer_pid", e.PID), problem(e.Problem))
	case AdminMalformed:
		l.info(e.Name(), "malformed admin request", slog.Int("peer_pid", e.PID), problem(e.Problem))
	case NotOffered:
		if l.debug {
			l.line(slog.LevelDebug, e.Name(), "not handed off", id(e.ConnectionID), slog.String("reason", e.Reason), slog.String("service", e.Service))
		}
	case Done:
		if l.debug {
			l.line(slog.LevelDebug, e.Name(), "connection done", slog.Any("steps", steps(e.Steps)))
		}
	case Upgraded:
		l.info(e.Name(), "another broker has taken this one's place", slog.Int("pid", e.PID))
	case Stays:
		l.info(e.Name(), "stays for connections whose bytes pass through it; SIGTERM ends them", slog.Int("connections", e.Connections))
	case UpgradeFailed:
		l.error(e.Name(), e.Problem)
	case Bug:
		l.error(e.Name(), "bug: "+e.Problem, id(e.ConnectionID))
	case Handoff:
		l.noteHandoff(e)
	case ProvenUnread:
		l.info(e.Name(), "backend died before it read the request", id(e.ConnectionID), slog.Int("backend_pid", e.PID))
	case NoToken:
		l.warn(e.Name(), "no handoff token", problem(e.Problem))
	case ReadyLost:
		l.info(e.Name(), "ready event not written", problem(e.Problem))
	default:
		l.noteBackend(e)
	}
}

func (l Log) noteHandoff(e Handoff) {
	level, message := slog.LevelWarn, "handoff fell back"
	if e.InTime() {
		if !l.debug {
			return
		}
		level, message = slog.LevelDebug, "handed over"
	}
	l.line(level, e.Name(), message, id(e.ConnectionID),
		slog.String("service", e.Backend.Service), slog.String("version", e.Backend.Version), slog.Int("backend_pid", e.Backend.PID),
		slog.Attr{Key: "outcome", Value: e.outcome()})
}

// outcome shows what became of the attempt as one group.
func (e Handoff) outcome() slog.Value {
	attrs := []slog.Attr{
		slog.String("verdict", e.Verdict),
		slog.String("stage", e.Stage),
		slog.Bool("fd_reached_backend", e.FDReachedBackend),
	}
	if e.LeakedBackendHandle != 0 {
		attrs = append(attrs, slog.Uint64("leaked_backend_handle", e.LeakedBackendHandle))
	}
	if e.Reason != "" {
		attrs = append(attrs, slog.String("reason", e.Reason))
	}
	if e.Rejected {
		attrs = append(attrs, slog.Bool("nack", true))
	}
	if e.Late {
		attrs = append(attrs, slog.Bool("late", true))
	}
	if e.Waited > 0 {
		attrs = append(attrs, slog.Duration("waited", e.Waited))
	}
	if e.Problem != "" {
		attrs = append(attrs, problem(e.Problem))
	}
	return slog.GroupValue(attrs...)
}

func (l Log) noteBackend(e Event) {
	switch e := e.(type) {
	case Registered:
		l.info(e.Name(), "backend registered", append(e.Backend.attrs(), slog.String("pipe", e.Backend.Pipe))...)
	case BackendTaken:
		l.info(e.Name(), "backend taken over from the broker before", e.Backend.attrs()...)
	case RegistrationRefused:
		l.warn(e.Name(), "registration refused", append(e.Backend.attrs(), problem(e.Problem))...)
	case RegistrationFailed:
		l.warn(e.Name(), "registration failed", append(e.Backend.attrs(), problem(e.Problem))...)
	case RegistrationMalformed:
		l.info(e.Name(), "malformed registration", slog.Int("peer_pid", e.PID), problem(e.Problem))
	case PageMissing:
		if l.debug {
			l.line(slog.LevelDebug, e.Name(), "no page of claims for a backend; its claims are descriptors", slog.Int("backend_pid", e.PID), problem(e.Problem))
		}
	case ChannelEnded:
		if e.Fault != "" {
			l.error(e.Name(), "channel ended: the backend broke the protocol; it may register again", slog.Int("backend_pid", e.PID), problem(e.Fault))
		}
	case Exited:
		attrs := e.Backend.attrs()
		if e.Exit != "" {
			attrs = append(attrs, slog.String("exit", e.Exit))
		}
		l.info(e.Name(), "backend exited", attrs...)
	case Relayed:
		if l.debug {
			l.line(slog.LevelDebug, e.Name(), "relayed", append(e.Backend.attrs(), id(e.ConnectionID))...)
		}
	case ProcessStarted:
		attrs := append(e.Backend.attrs(), id(e.ConnectionID), slog.String("log", e.Log))
		if e.Problem != "" {
			l.info(e.Name(), "process of a connection can't be started", append(attrs, problem(e.Problem))...)
		} else if l.debug {
			l.line(slog.LevelDebug, e.Name(), "process of a connection started", attrs...)
		}
	case ProcessEnded:
		attrs := append(e.Backend.attrs(), slog.String("exit", e.Exit))
		if e.Failed {
			l.info(e.Name(), "process of a connection failed", attrs...)
		} else if l.debug {
			l.line(slog.LevelDebug, e.Name(), "process of a connection ended", attrs...)
		}
	case Left:
		l.info(e.Name(), "backend left", e.Backend.attrs()...)
	case Started:
		l.info(e.Name(), "instance started", append(e.Backend.attrs(), slog.String("variant", e.Variant), slog.String("log", e.Log))...)
	case Ready:
		l.info(e.Name(), "instance ready", append(e.Backend.attrs(), slog.String("pipe", e.Backend.Pipe), slog.Duration("after", e.After))...)
	case StartFailed:
		l.warn(e.Name(), "instance did not become ready", append(e.Backend.attrs(), slog.String("variant", e.Variant), problem(e.Problem))...)
	case LogUnbounded:
		l.warn(e.Name(), "a log is not kept within its bound", slog.String("log", e.Log), problem(e.Problem))
	case LetGo:
		l.info(e.Name(), "backend let go", append(e.Backend.attrs(), slog.String("why", e.Why))...)
	case Busy:
		l.info(e.Name(), "backend has no connection, and is at work: it stays", e.Backend.attrs()...)
	case Paused:
		l.info(e.Name(), "service paused", slog.String("service", e.Service), slog.String("version", e.Version))
	case Resumed:
		l.info(e.Name(), "service resumed", slog.String("service", e.Service), slog.String("version", e.Version), slog.Int("waited", e.Waited))
	case StaticFound:
		l.info(e.Name(), "static backend found", e.Backend.attrs()...)
	case StaticMissing:
		l.warn(e.Name(), "static backend not reachable; trying again", slog.String("service", e.Service), slog.String("pipe", e.Pipe), problem(e.Problem))
	}
}

func (b Backend) attrs() []slog.Attr {
	return []slog.Attr{slog.String("service", b.Service), slog.String("version", b.Version), slog.Int("backend_pid", b.PID)}
}

func problem(text string) slog.Attr { return slog.String("error", text) }
func id(n uint64) slog.Attr         { return slog.Uint64("connection_id", n) }

// steps shows each step with the µs since the first, and the first as Unix time in µs,
// so that logs of several processes can be laid side by side.
func steps(all []Step) slog.Value {
	began := all[0].At
	attrs := make([]slog.Attr, 0, len(all)+1)
	attrs = append(attrs, slog.Int64("began_unix_us", began.UnixMicro()))
	for _, s := range all {
		attrs = append(attrs, slog.Int64(s.Name+"_us", s.At.Sub(began).Microseconds()))
	}
	return slog.GroupValue(attrs...)
}

func (l Log) info(event, message string, attrs ...slog.Attr) {
	l.line(slog.LevelInfo, event, message, attrs...)
}

func (l Log) warn(event, message string, attrs ...slog.Attr) {
	l.line(slog.LevelWarn, event, message, attrs...)
}

func (l Log) error(event, message string, attrs ...slog.Attr) {
	l.line(slog.LevelError, event, message, attrs...)
}

func (l Log) line(level slog.Level, event, message string, attrs ...slog.Attr) {
	l.to.LogAttrs(context.Background(), level, message, append(attrs, slog.String("event", event))...)
}
