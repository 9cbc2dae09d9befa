//go:build unix

package cli

import "testing"

func TestServiceRemove(t *testing.T) {
	p := newPlace(t)
	p.define(t, "notes")
	run(t, "service", "remove", "notes").want(t, 0, "", "")
	run(t, "service", "remove", "notes").want(t, exitFailed, "", `service "notes" in `+p.definitions+": service definition was not found")
	run(t, "service", "remove", "../x").want(t, exitFailed, "", "service_name")
	run(t, "service", "remove").want(t, exitUsage, "", "accepts 1 arg")
}
