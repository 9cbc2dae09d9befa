// Package usherpb holds the generated Go for usher's own messages: offers and
// acknowledgements on a backend's channel, and registration. The source is
// proto/usher/v1/usher.proto; go generate in internal/brokerpb rewrites both
// packages. It is the referee of package wire: tests alone import it.
package usherpb
