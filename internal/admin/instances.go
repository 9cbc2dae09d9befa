package admin

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/seed-7265657e/usher/internal/wire"
)

// Instance is a process that serves a service: one of the registry, one that is being
// started, or one that drains. Times are Unix milliseconds.
type Instance struct {
	Service, Version string
	// Build is the executable's hash, or another name of its content, in short hexadecimal
	// form; Variant tells instances of one build apart. Either may be empty.
	Build, Variant string
	Executable     string
	PID            int // 0: the system has not started it yet
	State          string
	Connections    int64 // −1: it does not tell
	Relayed        int   // of its connections, those that the broker relays
	SinceMS        int64
	IdleSinceMS    int64 // 0: it has connections, or does not tell
	Busy           bool  // it has none, and said that it is at work when its idle time was over
	RSS            uint64
	LastError      string
	Log            string         // of those that the broker has started
	Own            *wire.OwnBuild // what it was started for; nil for one of a defined service
}

// The states of an Instance.
const (
	Starting = "starting"
	Ready    = "ready"
	Draining = "draining" // gets no clients any more, and ends after its last connection
)

// Paused is a service whose clients wait.
type Paused struct {
	Service, Version string // an empty version is every one

	SinceMS int64
	Waiting int
}

// instances are sorted as people read them, and each says in what it differs from others.
func (s *Snapshot) instanceRows() []object {
	all := slices.SortedStableFunc(slices.Values(s.Instances), func(a, b Instance) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Version, b.Version), cmp.Compare(a.SinceMS, b.SinceMS))
	})
	rows := []object{}
	for _, i := range all {
		var connections any
		if i.Connections >= 0 {
			connections = i.Connections
		}
		row := object{
			"service_name": i.Service, "service_version": i.Version, "build": i.Build, "variant": i.Variant,
			"executable": i.Executable, "pid": i.PID, "state": i.State, "connections": connections,
			"since_unix_ms": i.SinceMS, "idle_since_unix_ms": i.IdleSinceMS, "busy": i.Busy, "rss_bytes": i.RSS,
			"relayed": i.Relayed, "last_error": i.LastError, "log": i.Log, "differs_in": differences(i, all),
		}
		if i.Own != nil {
			row["key"], row["dir"] = i.Own.Key, i.Own.Dir
		}
		rows = append(rows, row)
	}
	return rows
}

// differences says why i is not one with the others of its service and version: their
// build, key, directory, times, or variables of the environment, by name.
func differences(i Instance, all []Instance) []string {
	found := make(map[string]bool)
	for _, o := range all {
		if o.Service != i.Service || o.Version != i.Version {
			continue
		}
		found["build"] = found["build"] || o.Build != i.Build
		if o.Own == nil || i.Own == nil {
			continue
		}
		found["key"] = found["key"] || o.Own.Key != i.Own.Key
		found["dir"] = found["dir"] || o.Own.Dir != i.Own.Dir
		found["timeouts"] = found["timeouts"] || o.Own.IdleMs != i.Own.IdleMs || o.Own.StartMs != i.Own.StartMs
		for _, env := range [][2][]string{{i.Own.Env, o.Own.Env}, {o.Own.Env, i.Own.Env}} {
			for _, variable := range env[0] {
				if !slices.Contains(env[1], variable) {
					name, _, _ := strings.Cut(variable, "=")
					found[name] = true
				}
			}
		}
	}
	maps.DeleteFunc(found, func(_ string, differs bool) bool { return !differs })
	return append([]string{}, slices.Sorted(maps.Keys(found))...)
}

func (s *Snapshot) pausedRows() []object {
	rows := []object{}
	for _, p := range slices.SortedFunc(slices.Values(s.Paused), func(a, b Paused) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Version, b.Version))
	}) {
		rows = append(rows, object{"service_name": p.Service, "service_version": p.Version, "since_unix_ms": p.SinceMS, "waiting": p.Waiting})
	}
	return rows
}
