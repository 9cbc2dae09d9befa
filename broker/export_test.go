package broker

import "syscall"

// Demote puts the broker into its state of descriptor shortage.
func (b *Broker) Demote() { b.pressure.failed(syscall.EMFILE) }

// Backends returns how many backends are in the registry.
func (b *Broker) Backends() int { return b.backends.Len() }

// Pending returns what is under way: connections without a verdict, tokens and
// acknowledgements.
func (b *Broker) Pending() (connections, tokens, acks int) {
	return b.conns.count(), b.tokens.Pending(), b.handoffs.Acks.Pending()
}

// Draining reports whether the broker has begun to drain.
func (b *Broker) Draining() bool { return b.draining.Load() }
