package broker

// admission bounds the connections that have no verdict yet, in total and per
// client process, so that a flood of silent ones can't starve the others.
type admission struct {
	total, perPeer int

	all  int
	peer map[int]int // by pid; those of unknown pid (0) count as one
}

// enter reports whether one more connection of pid may begin. Every true is
// followed by one leave. At the bound in total, makeRoom is asked to end another
// connection, and tells whether it did.
func (a *admission) enter(pid int, makeRoom func() bool) bool {
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
	a.all--
	if a.peer[pid]--; a.peer[pid] == 0 {
		delete(a.peer, pid)
	}
}
