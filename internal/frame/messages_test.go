package frame_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

type messageVectors struct {
	Vectors []struct {
		Name, Message string
		Fields        map[string]any
	}
	Tolerance []struct{ Name, Message, Hex, Expect string }
	Malformed []struct{ Message, Hex, Why, Note string }
}

func loadMessages(t *testing.T) (v messageVectors) {
	t.Helper()
	testutil.Vectors(t, "messages.json", &v)
	if len(v.Vectors) == 0 || len(v.Tolerance) == 0 || len(v.Malformed) == 0 {
		t.Fatal("the vectors are empty")
	}
	return v
}

// TestTolerance: what a reader must take although no writer here sends it.
func TestTolerance(t *testing.T) {
	v := loadMessages(t)
	named := make(map[string]wire.Message)
	for _, known := range v.Vectors {
		if known.Message == "Hello" || known.Message == "HandoffOffer" {
			named[known.Name] = testutil.Message(t, known.Message, known.Fields)
		}
	}
	want := map[string]wire.Message{
		"hello_unknown_trailing_field": named["hello_all_fields"],
		"offer_out_of_order":           named["handoff_offer_unix_canonical"],
		"offer_explicit_zero_handle":   named["handoff_offer_unix_canonical"],
		"scalar_repeated_last_wins":    &wire.HandoffAck{CorrelationId: 1},
		"frame_unknown_kind":           &wire.Frame{EnvelopeVersion: 1, Kind: 9},
	}
	for _, c := range v.Tolerance {
		t.Run(c.Name, func(t *testing.T) {
			got := testutil.New(t, c.Message)
			if err := frame.Unmarshal(testutil.Hex(t, c.Hex), got); err != nil {
				t.Fatal(err)
			}
			if want[c.Name] == nil || !testutil.Equal(got, want[c.Name]) {
				t.Errorf("got %v: want %s", got, c.Expect)
			}
		})
	}
}

// TestMalformed: a wrong wire type on a known field is the one fault that
// is read as an unknown field; the vectors allow it, no correct peer sends it.
func TestMalformed(t *testing.T) {
	for _, c := range loadMessages(t).Malformed {
		t.Run(c.Why, func(t *testing.T) {
			lenient := strings.Contains(c.Note, "acceptable")
			err := frame.Unmarshal(testutil.Hex(t, c.Hex), testutil.New(t, c.Message))
			var decode *frame.DecodeError
			if !lenient && (!errors.As(err, &decode) || decode.What != c.Message) {
				t.Errorf("got %v, want a DecodeError for %s", err, c.Message)
			}
			if lenient && err != nil {
				t.Errorf("got %v, want the field skipped", err)
			}
		})
	}
}
