package cli

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// stateRunning is a live backend's state in a STATUS reply.
const stateRunning = "running"

// newest is the highest version of service that has a live backend.
func (s *status) newest(service string) (string, error) {
	var versions, others []string
	for _, b := range s.Backends {
		switch {
		case b.State != stateRunning:
		case b.Service == service:
			versions = append(versions, b.Version)
		default:
			others = append(others, b.Service+"@"+b.Version)
		}
	}
	if len(versions) == 0 {
		live := "no backend is live"
		if len(others) > 0 {
			slices.Sort(others)
			live = "live are " + strings.Join(slices.Compact(others), ", ")
		}
		return "", fmt.Errorf("no live backend of service %q: start one, or check the name (%s)", service, live)
	}
	return slices.MaxFunc(versions, compareVersions), nil
}

// compareVersions orders versions of the wire, which lack semver's "v". A version
// that the wire allows and semver does not, as 01.2.0, is below every other.
func compareVersions(a, b string) int {
	if c := semver.Compare("v"+a, "v"+b); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}
