//go:build !linux

package endpoint

// usersAreMapped is false: this system has no user namespaces.
func usersAreMapped() bool { return false }
