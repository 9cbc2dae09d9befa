package backend

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// A backend that the broker has started inherits its channel: there is nothing to dial,
// and nothing to prove. The broker offers nothing on it before the backend has said that
// it is ready, which it does at the first Accept (docs/protocol.md, section "Started
// instances").

// inherited takes the channel that this process was started with, and what it was started
// for; nil when there is none. The first Listener of the process gets it, and no child does.
func inherited() (*brokerChannel, *wire.OwnBuild, error) {
	own, err := ownBuild()
	if err != nil {
		return nil, nil, err
	}
	value, set := os.LookupEnv(endpoint.ChannelVariable)
	if !set {
		return nil, own, nil
	}
	_ = os.Unsetenv(endpoint.ChannelVariable)
	ch, err := takeChannel(value)
	if err != nil {
		return nil, nil, fmt.Errorf("%s is %q: %w", endpoint.ChannelVariable, value, err)
	}
	return ch, own, nil
}

// takeChannel owns the descriptors that value names.
func takeChannel(value string) (*brokerChannel, error) {
	first, second, paged := strings.Cut(value, ",")
	fd, err := sock.Inherited(first)
	if err != nil {
		return nil, err
	}
	b := newBrokerChannel()
	b.capabilities = frame.CapUnknownMessages
	b.Channel = sock.NewChannel(fd)
	if !paged {
		return b, nil
	}
	if fd, err = sock.Inherited(second); err == nil {
		b.page, err = claim.ReceivePage(fd)
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// ownBuild is what this process was started for; nil for a backend of a defined service.
func ownBuild() (*wire.OwnBuild, error) {
	value := os.Getenv(endpoint.OwnBuildVariable)
	if value == "" {
		return nil, nil
	}
	_ = os.Unsetenv(endpoint.OwnBuildVariable)
	message, err := hex.DecodeString(value)
	own := new(wire.OwnBuild)
	if err == nil {
		err = frame.Unmarshal(message, own)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is %q: %w", endpoint.OwnBuildVariable, value, err)
	}
	return own, nil
}

// startedIdle is how long this process is to live without a connection, by the word of who
// had it started; 0 for ever.
func startedIdle(own *wire.OwnBuild) time.Duration {
	if own != nil {
		return time.Duration(min(own.IdleMs, math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond
	}
	idle, err := time.ParseDuration(os.Getenv(endpoint.IdleVariable))
	if err != nil || idle < 0 {
		return 0
	}
	return idle
}

// disown gives up the inherited channel: the broker sees its end.
func (l *Listener) disown() error {
	if l.inherited == nil {
		return nil
	}
	return l.inherited.Close()
}

// sayReady tells the broker that connections may come, once.
func (l *Listener) sayReady() {
	l.ready.Do(func() {
		if l.inherited != nil {
			_ = l.note(l.inherited, &wire.Note{Kind: wire.NoteKind_NOTE_KIND_READY, BackendPipe: l.path()})
		}
	})
}

// note sends n. A channel that takes it not has ended, or is full, and then the broker
// knows or does not read.
func (l *Listener) note(ch *brokerChannel, n *wire.Note) error {
	message, err := frame.Append(nil, frame.ChannelNote(n))
	if err == nil {
		err = ch.Send(message)
	}
	if err != nil {
		l.opts.Logger.Info("note to the broker not sent", "note", n.Kind.String(), "error", err)
	}
	return err
}

// noted does what the broker says in a note.
func (l *Listener) noted(ch *brokerChannel, n *wire.Note) {
	if n.Kind == wire.NoteKind_NOTE_KIND_DRAIN {
		l.letGoBy = ch
		l.opts.Logger.Info("the broker lets this backend go")
		go func() { _ = l.Close() }() // until what was claimed is with Accept
	}
}
