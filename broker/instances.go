package broker

import (
	"fmt"
	"slices"

	"github.com/seed-7265657e/usher/internal/admin"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/usage"
)

// addInstances adds to a snapshot what people see of instances, and of processes that have a
// connection to themselves. What the processes themselves say is asked by the function that it
// returns, for a job.
func (s *server) addInstances(snapshot *admin.Snapshot) (ask func(*admin.Snapshot)) {
	var processes []*peer.Process // in the order of the instances; nil for one that has none yet
	add := func(e *entry, state string) {
		snapshot.Instances = append(snapshot.Instances, instance(e, state))
		processes = append(processes, e.Handle.process)
	}
	for _, e := range s.backends.All() {
		add(e, admin.Ready)
	}
	for _, starting := range s.starts.pending {
		add(starting.entry, admin.Starting)
	}
	for e := range s.leaving {
		add(e, admin.Draining)
	}
	snapshot.LogDir = s.opts.LogDir
	for key, since := range s.paused {
		snapshot.Paused = append(snapshot.Paused, admin.Paused{
			Service: key.Service, Version: key.Version, SinceMS: since.UnixMilli(), Waiting: len(s.waiting.connections[key]),
		})
	}
	alone := s.addProcesses(snapshot)
	return func(snapshot *admin.Snapshot) {
		for i, p := range processes {
			snapshot.Instances[i].RSS = memoryOf(p)
		}
		for i := range alone {
			for n, p := range alone[i] {
				snapshot.Processes[i].Oldest[n].RSS = memoryOf(p)
			}
		}
	}
}

// memoryOf is 0 for what can't be told.
func memoryOf(p *peer.Process) (rss uint64) {
	if p == nil {
		return 0
	}
	if rss = usage.Memory(p.PID()); !p.Alive() { // it may be another's
		return 0
	}
	return rss
}

// addProcesses adds those that have a connection to themselves, and returns them in the same
// order.
func (s *server) addProcesses(snapshot *admin.Snapshot) (processes [][]*peer.Process) {
	snapshot.Relays = admin.Relays{Open: s.joined.relays, Most: s.opts.MaxRelays, Total: s.counters.relayed}
	running, waiting := make(map[string][]*entry), make(map[string]int)
	for e := range s.processes.running {
		running[e.Service] = append(running[e.Service], e)
	}
	for key, all := range s.waiting.connections {
		for _, c := range all {
			if c.waiter.full != nil {
				waiting[key.Service]++
			}
		}
	}
	for service, n := range s.processes.of {
		oldest := running[service]
		slices.SortFunc(oldest, func(a, b *entry) int { return a.Since.Compare(b.Since) })
		row := admin.Processes{Service: service, Running: n, Waiting: waiting[service]}
		handles := []*peer.Process{}
		for _, e := range oldest[:min(len(oldest), admin.MaxOldest)] {
			row.Oldest = append(row.Oldest, admin.Process{Version: e.Version, PID: e.PID, SinceMS: e.Since.UnixMilli(), Ending: e.Handle.letGo})
			handles = append(handles, e.Handle.process)
		}
		snapshot.Processes, processes = append(snapshot.Processes, row), append(processes, handles)
	}
	return processes
}

func instance(e *entry, state string) admin.Instance {
	h := e.Handle
	i := admin.Instance{
		Service: e.Service, Version: e.Version, Variant: e.Variant, Executable: e.ExePath, PID: e.PID,
		State: state, Connections: h.connections(), Relayed: h.relayed, Busy: h.busy && h.active == 0, SinceMS: e.Since.UnixMilli(), LastError: e.LastError, Log: h.log,
	}
	build := e.ExeHash
	if h.own != nil {
		i.Own, build = h.own.build, h.own.file
	}
	if build != [32]byte{} {
		i.Build = fmt.Sprintf("%x", build[:4])
	}
	if i.Connections == 0 && state != admin.Starting {
		idle := h.idleSince
		if e.LastHello.After(idle) { // one that was over before the backend told of it
			idle = e.LastHello
		}
		i.IdleSinceMS = idle.UnixMilli()
	}
	return i
}
