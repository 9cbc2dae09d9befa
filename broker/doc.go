// Package broker is the server: it accepts clients on one Unix socket, finds the
// backend each of them wants, and hands the live connection over.
//
// One connection's life is a straight line, one file a step, with the names of
// docs/life-of-a-connection.md: accept.go, hello.go, resolve.go, wait.go, offer.go (with
// a file for each delivery), settle.go. The connection itself is in conn.go, the state
// that all share in server.go, what may block in job.go and files.go. Backends come in
// through register.go and static.go; broker.go starts and drains everything.
//
// Here the domain packages meet; none of them knows another. The broker owns
// the accepted connection until its verdict and then closes its copy; it owns
// its end of every channel and a handle on every backend process; the socket's
// Binding is closed by Close.
package broker
