// Package broker is the server: it accepts clients on one Unix socket, finds the
// backend each of them wants, and gives the live connection away.
//
// One connection's life is the straight line of connection.go, whose steps have
// the names of docs/life-of-a-connection.md. Backends come in through
// register.go; broker.go starts and drains everything.
//
// Here the domain packages meet; none of them knows another. The broker owns
// the accepted connection until its verdict and then closes its copy; it owns
// its end of every channel and a handle on every backend process; the socket's
// Binding is closed by Close.
package broker
