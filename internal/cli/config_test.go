//go:build unix

package cli

import (
	"fmt"
	"testing"
)

func TestConfig(t *testing.T) {
	p := newPlace(t)
	p.startBroker(t)
	run(t, "config", "--json").want(t, 0, fmt.Sprintf(`{"source":"env:RUNNING_PROCESS_SERVICE_DEF_DIR","value":%q}`, p.definitions), "")
}
