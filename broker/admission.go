package broker

import "sync"

// admission bounds the connections that have no verdict yet, in total and per
// client process, so that a flood of silent ones can't starve the others.
type admission struct {
	total, perPeer int

	mu   sync.Mutex
	all  int
	peer map[int]int // by pid; 0 (unknown) is bounded by total alone
}

// enter reports whether one more connection of pid may begin. Every true is
// followed by one leave.
func (a *admission) enter(pid int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all >= a.total || pid != 0 && a.peer[pid] >= a.perPeer {
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
