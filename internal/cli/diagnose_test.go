//go:build unix

package cli

import "testing"

func TestDiagnose(t *testing.T) {
	newPlace(t).startBroker(t)
	run(t, "diagnose").want(t, 0, `"output":"bundle.tar.gz"`, "")
	run(t, "diagnose", "--output", "x.tgz").want(t, 0, `"output":"x.tgz"`, "")
}
