package broker

import "time"

// attempts enforces the label handoff.max_attempts_per_minute: a fixed window per
// service. The zero value is ready. It holds one window for each service that has
// such a label, so definitions bound it, not clients. It is the loop's.
type attempts struct {
	windows map[string]attemptWindow // by service
}

type attemptWindow struct {
	since time.Time
	n     int
}

// allow reports whether one more attempt fits the minute; 0 is no limit.
func (a *attempts) allow(service string, limit int, now time.Time) bool {
	if limit == 0 {
		return true
	}
	w := a.windows[service]
	if now.Sub(w.since) >= time.Minute {
		w = attemptWindow{since: now}
	}
	if w.n >= limit {
		return false
	}
	w.n++
	if a.windows == nil {
		a.windows = make(map[string]attemptWindow)
	}
	a.windows[service] = w
	return true
}
