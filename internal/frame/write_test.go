package frame_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

type framedVector struct {
	Name           string
	Frame          map[string]any
	PayloadMessage string         `json:"payload_message"`
	PayloadFields  map[string]any `json:"payload_fields"`
	BodyLen        int            `json:"body_len"`
	HeaderHex      string         `json:"header_hex"`
	Hex            string
}

// TestFramedVectors encodes and decodes every pinned frame.
func TestFramedVectors(t *testing.T) {
	var v struct{ Vectors []framedVector }
	testutil.Vectors(t, "framed.json", &v)
	if len(v.Vectors) == 0 {
		t.Fatal("the vectors are empty")
	}
	for _, c := range v.Vectors {
		t.Run(c.Name, func(t *testing.T) {
			want := testutil.Message(t, "Frame", c.Frame).(*wire.Frame)
			if got := hex.EncodeToString(encode(t, want)); got != c.Hex || !strings.HasPrefix(got, c.HeaderHex) {
				t.Errorf("encoded\n %s, want\n %s", got, c.Hex)
			}
			raw := testutil.Hex(t, c.Hex)
			got, consumed, err := frame.Decode(raw, frame.MaxBody)
			if err != nil || consumed != len(raw) || consumed != frame.HeaderLen+c.BodyLen {
				t.Fatalf("consumed %d of %d, %v", consumed, len(raw), err)
			}
			if !testutil.Equal(got, want) {
				t.Errorf("decoded %v, want %v", got, want)
			}
			if c.PayloadMessage != "" {
				comparePayload(t, c, got.Payload)
			}
		})
	}
}

func comparePayload(t *testing.T, c framedVector, payload []byte) {
	t.Helper()
	want := testutil.Message(t, c.PayloadMessage, c.PayloadFields)
	got := testutil.New(t, c.PayloadMessage)
	if err := frame.Unmarshal(payload, got); err != nil {
		t.Fatal(err)
	}
	if !testutil.Equal(got, want) {
		t.Errorf("payload %v, want %v", got, want)
	}
}

func TestHeaderPin(t *testing.T) {
	var v struct {
		Pin struct {
			HelloHex  string `json:"hello_hex"`
			HeaderHex string `json:"header_hex"`
		} `json:"header_pin"`
	}
	testutil.Vectors(t, "framed.json", &v)
	raw := append(testutil.Hex(t, v.Pin.HeaderHex), testutil.Hex(t, v.Pin.HelloHex)...)
	body, err := frame.ReadBody(bytes.NewReader(raw), frame.MaxBody)
	if err != nil || hex.EncodeToString(body) != v.Pin.HelloHex {
		t.Errorf("got %x, %v", body, err)
	}
}

// TestAppendRefusesLargeBody stays at the cap: 16 MiB go, one byte more does
// not, and the destination comes back as it was.
func TestAppendRefusesLargeBody(t *testing.T) {
	overhead := len(wire.Marshal(frame.Request(frame.Control, 0, make([]byte, frame.MaxBody-16)))) - (frame.MaxBody - 16)
	atCap := frame.Request(frame.Control, 0, make([]byte, frame.MaxBody-overhead))
	if raw, err := frame.Append(nil, atCap); err != nil || len(raw) != frame.HeaderLen+frame.MaxBody {
		t.Fatalf("at the cap: %d bytes, %v", len(raw), err)
	}
	atCap.Payload = append(atCap.Payload, 0)
	dst := []byte("kept")
	out, err := frame.Append(dst, atCap)
	var large *frame.TooLargeError
	if !errors.As(err, &large) || large.Len != frame.MaxBody+1 || string(out) != "kept" {
		t.Errorf("above the cap: %q, %v", out, err)
	}
	if n, err := frame.Write(new(bytes.Buffer), atCap); n != 0 || !errors.As(err, &large) {
		t.Errorf("Write above the cap: %d, %v", n, err)
	}
}

func TestAppendRefusesBadText(t *testing.T) {
	out, err := frame.Append([]byte("kept"), &wire.Frame{Traceparent: "\xff"})
	if err == nil || string(out) != "kept" {
		t.Errorf("got %q, %v", out, err)
	}
}

type writeCounter struct {
	bytes.Buffer
	calls int
}

func (w *writeCounter) Write(p []byte) (int, error) {
	w.calls++
	return w.Buffer.Write(p)
}

func TestWriteIsOneCall(t *testing.T) {
	f := frame.Request(frame.Admin, 1, []byte("x"))
	var w writeCounter
	n, err := frame.Write(&w, f)
	if err != nil || w.calls != 1 || n != w.Len() || !bytes.Equal(w.Bytes(), encode(t, f)) {
		t.Errorf("%d bytes in %d calls, %v", n, w.calls, err)
	}
}
