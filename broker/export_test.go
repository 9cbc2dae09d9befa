package broker

import (
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// Demote puts the broker into its state of descriptor shortage.
func (b *Broker) Demote() { b.pressure.failed(syscall.EMFILE) }

// Backends returns how many backends are in the registry.
func (b *Broker) Backends() int { return b.backends.Len() }

// Gone reports whether the broker knows a backend whose process has ended.
func (b *Broker) Gone() bool {
	return slices.ContainsFunc(b.backends.All(), func(e *entry) bool { return e.Handle.gone() })
}

// HoldLoop keeps the loop from going on until release is called.
func (b *Broker) HoldLoop() (release func()) {
	held, released := make(chan struct{}), make(chan struct{})
	b.front.loop.Post(func() {
		close(held)
		<-released
	})
	<-held
	return func() { close(released) }
}

// Pending returns what is under way: connections without a verdict, and handoffs, with
// the services that one is counted for.
func (b *Broker) Pending() (connections, handoffs int) {
	pending := make(chan int, 1)
	count := func() { pending <- b.handoffs.Pending() + len(b.front.inFlight) }
	if !b.front.loop.Post(count) { // nobody else is there any more
		count()
	}
	return b.conns.count(), <-pending
}

// Draining reports whether the broker has begun to drain.
func (b *Broker) Draining() bool { return b.draining.Load() }

// Remembered reports whether the facts about a service are in memory, and every way
// to their files watched.
func (b *Broker) Remembered(service string) bool {
	answer := make(chan bool)
	b.front.loop.Post(func() {
		b.memory.mu.RLock()
		defer b.memory.mu.RUnlock()
		r := b.memory.known[service]
		answer <- r != nil && r.watched
	})
	return <-answer
}

// ForgetWatch ends the watch on files, as if the system had none.
func (b *Broker) ForgetWatch() { b.memory.close() }

// Handshakes returns how many connections count against the bounds.
func (b *Broker) Handshakes() int {
	b.admission.mu.Lock()
	defer b.admission.mu.Unlock()
	return b.admission.all
}

// AdvanceClock lets a test move the handoffs' clock forward. Call it before Serve.
func (b *Broker) AdvanceClock() (forward func(time.Duration)) {
	var ahead atomic.Int64
	b.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	return func(d time.Duration) { ahead.Store(int64(d)) }
}

// StopLoop ends the event loop as if it had failed, and waits for that.
func (b *Broker) StopLoop() {
	b.front.loop.Stop()
	for b.front.loop.Post(func() {}) {
	}
}
