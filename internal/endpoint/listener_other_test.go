//go:build unix && !linux

package endpoint

const listenerPIDKnown = false
