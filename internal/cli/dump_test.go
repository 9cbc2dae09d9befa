//go:build unix

package cli

import "testing"

func TestDump(t *testing.T) {
	newPlace(t).startBroker(t)
	run(t, "dump").want(t, 0, `"command":"dump","effective_config":{`, "")
}
