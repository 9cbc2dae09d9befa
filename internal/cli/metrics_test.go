//go:build unix

package cli

import "testing"

func TestMetrics(t *testing.T) {
	newPlace(t).startBroker(t)
	run(t, "metrics").want(t, 0, "running_process_broker_v1_connections_open 1\n", "")
}
