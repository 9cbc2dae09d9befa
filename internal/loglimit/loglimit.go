// Package loglimit keeps a log from growing with what peers do: of the lines that say
// the same, the first ones of each minute are written, and then how many there were.
//
// A leaf: it imports nothing of usher, and no descriptor passes through it.
package loglimit

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// Burst is how many lines with one message are written in a Window.
	Burst  = 16
	Window = time.Minute

	// maxMessages bounds what is kept. Messages are the program's own constants; those
	// beyond the bound are limited together.
	maxMessages = 256
)

// Handler is a slog.Handler in front of another one. Lines below slog.LevelInfo pass:
// who asks for them wants all. It is safe for concurrent use.
type Handler struct {
	next  slog.Handler
	shown *shown
}

// shown is what has been written, for a Handler and those made of it.
type shown struct {
	mu      sync.Mutex
	windows map[string]*window // by message
}

// window counts the lines with one message since it began.
type window struct {
	began  time.Time
	lines  int
	level  slog.Level // of the last line left out
	hidden int        // lines left out
}

// New makes a Handler in front of next.
func New(next slog.Handler) *Handler {
	return &Handler{next, &shown{windows: make(map[string]*window)}}
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{h.next.WithAttrs(attrs), h.shown}
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.next.WithGroup(name), h.shown}
}

// Handle implements slog.Handler. It writes the record, unless there were enough of its
// kind, and how many were left out in each window that has ended.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return h.next.Handle(ctx, r)
	}
	write, counts := h.shown.judge(r)
	for _, count := range counts {
		if err := h.next.Handle(ctx, count); err != nil {
			return err
		}
	}
	if !write {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// Flush writes how many lines have been left out so far. Call it when no more come.
func (h *Handler) Flush(ctx context.Context) {
	for _, count := range h.shown.ended(time.Now().Add(Window)) {
		_ = h.next.Handle(ctx, count)
	}
}

func (s *shown) judge(r slog.Record) (write bool, counts []slog.Record) {
	counts = s.ended(r.Time)
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Message
	if _, known := s.windows[key]; !known && len(s.windows) >= maxMessages {
		key = ""
	}
	w := s.windows[key]
	if w == nil || r.Time.Sub(w.began) >= Window {
		w = &window{began: r.Time}
		s.windows[key] = w
	}
	if w.lines < Burst {
		w.lines++
		return true, counts
	}
	w.hidden++
	w.level = r.Level
	return false, counts
}

// ended returns the counts of the windows that have ended by now, and forgets them.
func (s *shown) ended(now time.Time) (counts []slog.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for message, w := range s.windows {
		if now.Sub(w.began) < Window || w.hidden == 0 {
			continue
		}
		count := slog.NewRecord(now, w.level, message, 0)
		count.AddAttrs(slog.Int("more", w.hidden), slog.Duration("within", Window))
		counts = append(counts, count)
		delete(s.windows, message)
	}
	return counts
}
