// Package transport carries handoffs to backends, by the rules of package handoff: Channel
// is usher's own way, V1 the exchange with a backend that knows no claim. The caller chooses
// one of them, and calls it in the order that handoff.Attempt tells.
//
// Descriptors: a Channel owns its socket and its page of claims until Retire; what it sends
// is borrowed. An exchange owns the connection to the backend's handoff endpoint.
package transport
