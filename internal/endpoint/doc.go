// Package endpoint says where things are and owns what stands there: the names
// and paths of sockets, the directories usher reads and writes, and the act of
// binding a socket so that exactly one process owns it.
//
// It is a leaf. Both the broker and the SDKs import it, so it needs nothing but
// the other leaves, x/sys and flock.
//
// Descriptors: a Binding owns its listener and its lock file from Bind until
// Close. Nothing else here keeps a descriptor open.
//
// Spec: document "03 broker", sections 1 to 3 and 24.
package endpoint
