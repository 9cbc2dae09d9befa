//go:build !unix

package endpoint

// Lacks names what Linux has for this package and this system has not, for people.
func Lacks() []string { return nil }
