package broker

import (
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/splice"
)

// relayed is a client that is joined to a connection of the broker's. The loop moves its
// first messages: that costs less than a goroutine, which has to be woken. One that goes on
// for longer, or has more to say than a small message, gets its goroutine.
//
//	looped ──an event too many, or what Try leaves──▶ its goroutine
//	   └──────────────both have ended─────────────────┴──▶ ended
type relayed struct {
	server    *server
	near, far *sock.Conn
	joint     *splice.Joint
	backend   *entry

	// While it is looped:
	events     int
	nearWaits  bool // near is watched for its end alone
	farIgnored bool // far is not watched
}

// eventsLooped is how many events a relayed connection may have on the loop: a request, an
// answer, and an end of each direction.
const eventsLooped = 4

// join has near and far, both of which are its own from then on, joined until both have
// ended.
func (s *server) join(near *sock.Conn, far splice.Conn, e *entry) {
	joint := splice.New(near, far)
	local, _ := far.(*sock.Conn) // nil for a port
	r := &relayed{server: s, near: near, far: local, joint: joint, backend: e}
	if local == nil || s.jobs.work.Err() != nil || !joint.Try() || !r.watch() {
		r.goOn()
	}
}

// watch has the loop tell of both.
func (r *relayed) watch() bool {
	loop := r.server.loop
	r.server.looped[r] = true
	return loop.Add(r.near, r.happened) == nil && loop.Add(r.far, r.happened) == nil && r.watchEnds()
}

// happened is called when one of both has something to read, or has ended.
func (r *relayed) happened() {
	if r.events++; r.events > eventsLooped || !r.joint.Try() || !r.watchEnds() {
		r.goOn()
	}
}

// watchEnds has the loop tell no more of what nobody reads from, but the end of near; and
// ends what has ended. It is false where the loop can't.
func (r *relayed) watchEnds() bool {
	loop := r.server.loop
	near, far := r.joint.Open()
	if !near && !far {
		r.leaveLoop()
		_, _ = r.near.Close(), r.far.Close()
		r.ended()
		return true
	}
	if !far && !r.farIgnored {
		r.farIgnored = true
		loop.Remove(r.far)
	}
	if !near && !r.nearWaits {
		r.nearWaits = true
		loop.Remove(r.near)
		return loop.AddEnd(r.near, r.happened) == nil
	}
	return true
}

func (r *relayed) leaveLoop() {
	delete(r.server.looped, r)
	r.server.loop.Remove(r.near)
	r.server.loop.Remove(r.far)
}

// goOn has a goroutine go on, until both have ended or the broker's work has.
func (r *relayed) goOn() {
	s := r.server
	if s.looped[r] {
		r.leaveLoop()
	}
	work := s.jobs.work
	s.jobs.wg.Go(func() {
		_ = r.joint.Join(work) // who is joined sees the end
		s.jobs.post(r.ended)
	})
}

func (r *relayed) ended() {
	r.server.relayEnded()
	r.backend.Handle.relayed--
	r.server.lookIdle()
}

// unloop has goroutines go on with what is relayed on the loop, when that, or the broker's
// work, has ended.
func (s *server) unloop() {
	for r := range s.looped {
		r.goOn()
	}
}
