package endpoint

import (
	"testing"
	"time"
)

func TestMilliseconds(t *testing.T) {
	const otherwise = 7 * time.Second
	for text, want := range map[string]time.Duration{
		"250": 250 * time.Millisecond, " 250\n": 250 * time.Millisecond,
		"": otherwise, "0": otherwise, "-1": otherwise, "1s": otherwise, "0x10": otherwise,
		"18446744073709551615": otherwise,
	} {
		t.Setenv(HelloTimeoutVariable, text)
		if got := Milliseconds(HelloTimeoutVariable, otherwise); got != want {
			t.Errorf("%q gives %v, want %v", text, got, want)
		}
	}
}
