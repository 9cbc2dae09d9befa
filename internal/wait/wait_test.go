package wait

import (
	"context"
	"testing"
	"time"
)

func TestFor(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	if For(ended, time.Hour) {
		t.Error("waited on after the context had ended")
	}
	if !For(t.Context(), time.Nanosecond) {
		t.Error("did not wait to the end")
	}
}
