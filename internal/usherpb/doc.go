// Package usherpb holds the generated Go for usher's own messages: offers and
// acknowledgements on a backend's channel, and registration. The source is
// proto/usher/v1/usher.proto; go generate in internal/brokerpb rewrites both
// packages. Every package may import it; it imports nothing of usher and holds
// no descriptors.
package usherpb
