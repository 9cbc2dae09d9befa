package broker

// delivery is one way for a connection to reach the backend that it was resolved to,
// c.offer.target. It runs on the loop, and everything about it but the bytes is there:
// what could block leaves the loop as a job that takes values and posts its result.
type delivery interface {
	// leadsTo reports whether t can be delivered this way.
	leadsTo(t *target) bool
	// deliver begins; whatever comes of it, c gets its verdict and is closed.
	deliver(c *connection)
}

// deliveries are the ways to hand a connection over; the first that leads to the
// target is taken. Where none does, or a handoff is not to be tried, the client is told
// to reconnect, which is always right. A new one is its file, and a line here.
var deliveries = [...]delivery{byProcess{}, byRelay{}, byChannel{}, byV1{}}
