//go:build !linux && !darwin

package admin

// ProbeDescriptors returns 0: not counted on this system.
func ProbeDescriptors() float64 { return 0 }
