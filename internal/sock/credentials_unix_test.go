//go:build unix

package sock

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckUser(t *testing.T) {
	for _, c := range []struct {
		peer uint32
		us   int
		ok   bool
	}{
		{0, 0, true},
		{1000, 1000, true},
		{1000, 0, false}, // root gets no exception in either direction
		{0, 1000, false},
		{1000, 1001, false},
		{OverflowUID, OverflowUID, false}, // nobody's identity
		{OverflowUID, 1000, false},
		{^uint32(0), -1, false}, // a system without user ids
	} {
		err := Credentials{UID: c.peer}.CheckUser(c.us)
		if c.peer == OverflowUID && !strings.Contains(err.Error(), "as another user") {
			t.Errorf("%v does not say what to do about uid %d", err, c.peer)
		}
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrForeignUser) {
			t.Errorf("peer %d, us %d: got %v", c.peer, c.us, err)
		}
	}
}
