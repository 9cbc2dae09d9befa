//go:build unix

package cli

import (
	"fmt"
	"testing"
)

func TestListInstances(t *testing.T) {
	p := newPlace(t)
	p.startBroker(t)
	run(t, "list-instances", "--json").want(t, 0, fmt.Sprintf(`"pipe":%q,"state":"running"`, p.socket), "")
}
