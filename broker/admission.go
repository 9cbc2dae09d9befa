package broker

import "sync"

// admission bounds the connections that have no verdict yet, in total and per
// client process, so that a flood of silent ones can't starve the others.
type admission struct {
	total, perPeer int

	mu   sync.Mutex
	all  int
	peer map[int]int // by pid; those of unknown pid (0) count as one
}

// enter reports whether one more connection of pid may begin. Every true is
// followed by one leave. At the bound in total, makeRoom is asked to end another
// connection, and tells whether it did; that one leaves a moment later.
func (a *admission) enter(pid int, makeRoom func() bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.peer[pid] >= a.perPeer || a.all >= a.total && !makeRoom() {
		return false
	}
	if a.peer == nil {
		a.peer = make(map[int]int)
	}
	a.all++
	a.peer[pid]++
	return true
}

func (a *admission) leave(pid int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all--
	if a.peer[pid]--; a.peer[pid] == 0 {
		delete(a.peer, pid)
	}
}
