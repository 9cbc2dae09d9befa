//go:build unix

package cli

import "testing"

func TestBackendHealth(t *testing.T) {
	p := newPlace(t)
	p.define(t, "notes")
	p.startBroker(t)
	p.startBackend(t, "notes", "1.2.0", echo)
	run(t, "backend-health", "notes").want(t, 0, `"service_version":"1.2.0","state":"running"`, "")
	run(t, "backend-health", "others", "--json").want(t, 0, `"backends":[]`, "")
	run(t, "backend-health").want(t, 0, `"service_name":"unknown"`, "")
}
