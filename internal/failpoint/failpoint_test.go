package failpoint_test

import (
	"slices"
	"testing"

	"github.com/seed-7265657e/usher/internal/failpoint"
)

func TestHit(t *testing.T) {
	failpoint.Hit(failpoint.BrokerIssued) // without a hook: nothing
	var hits []failpoint.Point
	failpoint.Set(func(p failpoint.Point) { hits = append(hits, p) })
	defer failpoint.Set(nil)
	failpoint.Hit(failpoint.BrokerSent)
	failpoint.Hit(failpoint.BackendClaimed)
	failpoint.Set(nil)
	failpoint.Hit(failpoint.BackendAcked)
	if want := []failpoint.Point{failpoint.BrokerSent, failpoint.BackendClaimed}; !slices.Equal(hits, want) {
		t.Errorf("hit %v, want %v", hits, want)
	}
}

func TestHitAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { failpoint.Hit(failpoint.BrokerSent) }); n != 0 {
		t.Errorf("a point without a hook allocates %v times", n)
	}
}
