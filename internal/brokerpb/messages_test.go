package brokerpb_test

import (
	"encoding/hex"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/seed-7265657e/usher/internal/testutil"
)

type messageVector struct {
	Name, Message, Hex string
	Fields             map[string]any
}

type messageVectors struct{ Vectors []messageVector }

func load(t *testing.T) (v messageVectors) {
	t.Helper()
	testutil.Vectors(t, "messages.json", &v)
	if len(v.Vectors) == 0 {
		t.Fatal("the vectors are empty")
	}
	return v
}

// TestCanonicalBytes holds every message against its pinned bytes, both ways.
func TestCanonicalBytes(t *testing.T) {
	for _, v := range load(t).Vectors {
		t.Run(v.Name, func(t *testing.T) {
			want := testutil.Proto(t, v.Message, v.Fields)
			if got := hex.EncodeToString(marshal(t, want)); got != v.Hex {
				t.Errorf("encoded\n %s, want\n %s", got, v.Hex)
			}
			got := testutil.NewProto(t, v.Message)
			if err := proto.Unmarshal(testutil.Hex(t, v.Hex), got); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got, want) {
				t.Errorf("decoded %v, want %v", got, want)
			}
		})
	}
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
