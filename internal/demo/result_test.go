package demo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7265657e/usher/client"
)

func TestOK(t *testing.T) {
	for _, tc := range []struct {
		name string
		r    Result
		want bool
	}{
		{"all well", Result{Unknown: 1, Scenarios: []Scenario{{OK: true}}}, true},
		{"run twice", Result{ExecutedTwice: 1}, false},
		{"lost", Result{Lost: 1}, false},
		{"leaked", Result{FDsLeaked: 1}, false},
		{"failed", Result{Scenarios: []Scenario{{OK: true}, {OK: false}}}, false},
	} {
		if got := tc.r.OK(); got != tc.want {
			t.Errorf("%s: %t", tc.name, got)
		}
	}
}

// TestFigures: what ran is counted over all backends.
func TestFigures(t *testing.T) {
	s := &stage{executed: make(map[string]int), fdsLeaked: 3, tallies: []*tally{
		{Requests: 5, HandedOver: 2, Reconnected: 1, Unknown: 1, Lost: 1},
		{Requests: 1, Refused: 1},
	}}
	for _, id := range []string{"a", "b", "b", "c", "c"} {
		s.note(&event{Executed: id})
	}
	s.note(&event{Freezing: true})
	var r Result
	s.figures(t.Context(), &r)
	want := Result{Requests: 6, HandedOver: 2, Reconnected: 1, Unknown: 1, Lost: 1, ExecutedTwice: 2, FDsLeaked: 3}
	if diff := cmp.Diff(want, r, cmp.AllowUnexported(Result{})); diff != "" {
		t.Error(diff)
	}
}

// TestTally: every request has one verdict.
func TestTally(t *testing.T) {
	var got tally
	for _, err := range []error{
		nil,
		errWrong,
		fmt.Errorf("post: %w", &client.OutcomeError{Err: io.EOF}),
		&client.RefusedError{},
		client.ErrBrokerUnreachable,
		client.ErrBackendUnreachable,
		errors.New("anything else"),
	} {
		got.Requests++
		got.count(client.HandedOver, 7, err)
	}
	got.Requests++
	got.count(client.Reconnected, 8, nil)
	got.Faults = nil
	want := tally{Requests: 8, HandedOver: 2, Reconnected: 1, Wrong: 1, Unknown: 1, Refused: 3, Lost: 1, By: []int{7, 8}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.answered()+got.Unknown+got.Refused+got.Lost != got.Requests {
		t.Error("the parts don't add up")
	}
}

// TestNoTimeline: that there is none is said.
func TestNoTimeline(t *testing.T) {
	var text bytes.Buffer
	if err := (&Result{}).Write(&text, false); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "  No timeline: ") {
		t.Errorf("got:\n%s", &text)
	}
}

func TestWriteFailure(t *testing.T) {
	r := &Result{
		ExecutedTwice: 1,
		Scenarios:     []Scenario{{Name: "frozen-backend", Detail: "the request ran 2 times"}},
		Timeline:      []Step{{whoClient, "dial", 0}, {whoBroker, "accept", 12}, {whoBackend, "received", 34}},
	}
	var plain, colour bytes.Buffer
	if err := errors.Join(r.Write(&plain, false), r.Write(&colour, true)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"  FAILED  frozen-backend         the request ran 2 times\n",
		"  1 run twice, 0 lost",
		"      0   ● dial          │               │\n",
		"     12   │               ● accept        │\n",
		"     34   │               │               ● received\n",
	} {
		if !strings.Contains(plain.String(), want) {
			t.Errorf("no %q in:\n%s", want, &plain)
		}
	}
	if !strings.Contains(colour.String(), red+"1 run twice"+reset) {
		t.Errorf("what is wrong is not red: %q", &colour)
	}
}

func TestWrap(t *testing.T) {
	for _, tc := range []struct {
		text string
		want []string
	}{
		{"", []string{""}},
		{"one two", []string{"one two"}},
		{"one two three", []string{"one two", "three"}},
		{"a verylongword b", []string{"a", "verylongword", "b"}},
	} {
		if diff := cmp.Diff(tc.want, wrap(tc.text, 8)); diff != "" {
			t.Errorf("%q: %s", tc.text, diff)
		}
	}
}
