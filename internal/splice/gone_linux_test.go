//go:build linux && !usher_portable

package splice_test

import (
	"io"
	"testing"
	"time"
)

// TestGoneForGood: a side that has gone ends what is joined, also where the other side never
// says anything, and does not end; one that has ended its direction alone does not.
func TestGoneForGood(t *testing.T) {
	near, far, ended := joined(t, t.Context())
	_ = near.CloseWrite()
	if n, err := far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read %d, %v", n, err)
	}
	if _, err := far.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(near, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	_ = near.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("it goes on")
		_ = far.Close()
	}
	if _, err := far.Write([]byte("x")); err == nil {
		t.Error("somebody takes what is written")
	}
}
