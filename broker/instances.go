package broker

import (
	"fmt"

	"github.com/seed-7265657e/usher/internal/admin"
	"github.com/seed-7265657e/usher/internal/peer"
)

// addInstances adds to a snapshot what people see of instances. It returns the processes in
// the same order; nil for one that has none yet.
func (s *server) addInstances(snapshot *admin.Snapshot) (processes []*peer.Process) {
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
	return processes
}

func instance(e *entry, state string) admin.Instance {
	h := e.Handle
	i := admin.Instance{
		Service: e.Service, Version: e.Version, Variant: e.Variant, Executable: e.ExePath, PID: e.PID,
		State: state, Connections: h.connections(), Busy: h.busy && h.active == 0, SinceMS: e.Since.UnixMilli(), LastError: e.LastError, Log: h.log,
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
