package admin

import (
	"cmp"
	"slices"
)

// Processes are those of a service whose program has one for each connection.
type Processes struct {
	Service string
	Running int // those that are just being started included
	Waiting int // clients, for one of them to end
	Oldest  []Process
}

// MaxOldest is how many processes of one service are shown.
const MaxOldest = 16

// Process is a process that has one connection to itself. Times are Unix milliseconds.
type Process struct {
	Version string
	PID     int
	SinceMS int64
	RSS     uint64
	Ending  bool // it was asked to end
}

// Relays are the connections whose bytes pass through the broker.
type Relays struct {
	Open, Most int
	Total      uint64 // since serving began
}

func (r Relays) body() object { return object{"open": r.Open, "most": r.Most, "total": r.Total} }

func (s *Snapshot) processRows() []object {
	rows := []object{}
	for _, p := range slices.SortedFunc(slices.Values(s.Processes), func(a, b Processes) int { return cmp.Compare(a.Service, b.Service) }) {
		oldest := []object{}
		for _, o := range p.Oldest {
			oldest = append(oldest, object{"service_version": o.Version, "pid": o.PID, "since_unix_ms": o.SinceMS, "rss_bytes": o.RSS, "ending": o.Ending})
		}
		rows = append(rows, object{"service_name": p.Service, "running": p.Running, "waiting": p.Waiting, "oldest": oldest})
	}
	return rows
}
