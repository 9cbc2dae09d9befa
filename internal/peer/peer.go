// Package peer holds on to a process, so that its pid can't come to mean a stranger.
//
// A leaf: of usher it imports sock alone. A Process owns its handle and is closed by
// whoever opened it; sockets are borrowed.
package peer
