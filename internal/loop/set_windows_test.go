package loop

import (
	"crypto/rand"
	"encoding/hex"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/sock"
)

// TestNoReadStaysUnderWay behind Remove, and behind the loop: what it would end with is
// memory that somebody else has by then.
func TestNoReadStaysUnderWay(t *testing.T) {
	l, err := New(func(time.Time) time.Time { return time.Time{} }, nil)
	if err != nil {
		t.Fatal(err)
	}
	var random [8]byte
	_, _ = rand.Read(random[:])
	path := `\\.\pipe\usher-test-` + hex.EncodeToString(random[:])
	p, err := sock.Listen(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	var both [2]*sock.Conn
	var watches [2]*watch
	for i := range both {
		if both[i], err = sock.Dial(path); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = both[i].Close() }()
		if err := l.Add(both[i], func() {}); err != nil {
			t.Fatal(err)
		}
		watches[i] = l.set.watched[sock.Number(both[i])]
	}
	l.Post(func() {
		for i, w := range watches {
			if !w.begun {
				t.Errorf("pipe %d is not read", i)
			}
		}
		l.Remove(both[0])
		if watches[0].begun {
			t.Error("it is read behind Remove")
		}
		l.Stop()
	})
	if err := l.Run(); err != nil {
		t.Fatal(err)
	}
	if watches[1].begun {
		t.Error("it is read behind the loop's end")
	}
	l.Close()
}
