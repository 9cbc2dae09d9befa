//go:build unix && !linux && !darwin && !freebsd && !openbsd && !netbsd && !dragonfly

package endpoint

func hostUUID() string { return "" }
