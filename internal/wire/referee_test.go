package wire_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/usherpb"
	"github.com/seed-7265657e/usher/internal/wire"
)

// pair is a message in both codecs.
type pair struct {
	ours   wire.Message
	theirs proto.Message
}

var pairs = []pair{
	{&wire.Frame{}, &brokerpb.Frame{}},
	{&wire.Hello{}, &brokerpb.Hello{}},
	{&wire.HelloReply{}, &brokerpb.HelloReply{}},
	{&wire.Negotiated{}, &brokerpb.Negotiated{}},
	{&wire.Refused{}, &brokerpb.Refused{}},
	{&wire.HandoffOffer{}, &brokerpb.HandoffOffer{}},
	{&wire.HandoffAck{}, &brokerpb.HandoffAck{}},
	{&wire.AdminRequest{}, &brokerpb.AdminRequest{}},
	{&wire.AdminReply{}, &brokerpb.AdminReply{}},
	{&wire.ServiceDefinition{}, &brokerpb.ServiceDefinition{}},
	{&wire.DaemonProcess{}, &brokerpb.DaemonProcess{}},
	{&wire.Endpoint{}, &brokerpb.Endpoint{}},
	{&wire.LifecycleEvent{}, &brokerpb.LifecycleEvent{}},
	{&wire.Offer{}, &usherpb.Offer{}},
	{&wire.Ack{}, &usherpb.Ack{}},
	{&wire.Register{}, &usherpb.Register{}},
	{&wire.Registered{}, &usherpb.Registered{}},
	{&wire.OwnBuild{}, &usherpb.OwnBuild{}},
	{&wire.Note{}, &usherpb.Note{}},
	{&wire.Handover{}, &usherpb.Handover{}},
	{&wire.PassedBackend{}, &usherpb.PassedBackend{}},
}

// fresh returns the pair with both messages new.
func (p pair) fresh() pair {
	return pair{
		ours:   reflect.New(reflect.TypeOf(p.ours).Elem()).Interface().(wire.Message),
		theirs: p.theirs.ProtoReflect().New().Interface(),
	}
}

func canonical(tb testing.TB, m proto.Message) []byte {
	tb.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// agree gives the bytes to both codecs: they fail alike, or read the same, and
// write it alike.
func (p pair) agree(t *testing.T, b []byte) {
	t.Helper()
	p = p.fresh()
	err := wire.Unmarshal(b, p.ours)
	theirErr := proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, p.theirs)
	if (err == nil) != (theirErr == nil) {
		t.Fatalf("%s from %x: %v, and the referee: %v", p.ours.Name(), b, err, theirErr)
	}
	if err != nil {
		return
	}
	compare(t, p.ours.Name(), reflect.ValueOf(p.ours), reflect.ValueOf(p.theirs))
	want := canonical(t, p.theirs)
	got, err := wire.Append([]byte("before"), p.ours)
	if err != nil || !bytes.Equal(got, append([]byte("before"), want...)) {
		t.Fatalf("%s from %x: wrote %x, %v, and the referee %x", p.ours.Name(), b, got, err, want)
	}
	if repaired := wire.Marshal(p.ours); !bytes.Equal(repaired, want) {
		t.Fatalf("%s from %x: wrote %x, and the referee %x", p.ours.Name(), b, repaired, want)
	}
}

// compare holds each of our fields against the referee's of the same name.
func compare(t *testing.T, at string, ours, theirs reflect.Value) {
	t.Helper()
	if ours.IsNil() || theirs.IsNil() {
		if ours.IsNil() != theirs.IsNil() {
			t.Fatalf("%s: one is absent, the other not", at)
		}
		return
	}
	for i := range ours.Elem().NumField() {
		name := ours.Elem().Type().Field(i).Name
		field, getter := ours.Elem().Field(i), theirs.MethodByName("Get"+name)
		if !getter.IsValid() {
			t.Fatalf("%s has no field %s", at, name)
		}
		want := getter.Call(nil)[0]
		same := true
		switch {
		case field.Type() == reflect.TypeFor[*uint32]():
			same = field.IsNil() && want.Uint() == 0 || !field.IsNil() && field.Elem().Uint() == want.Uint()
		case field.Kind() == reflect.Pointer:
			compare(t, at+"."+name, field, want)
		case field.CanInt():
			same = field.Int() == want.Int()
		case (field.Kind() == reflect.Slice || field.Kind() == reflect.Map) && field.Len() == 0:
			same = want.Len() == 0
		default:
			same = reflect.DeepEqual(field.Interface(), want.Interface())
		}
		if !same {
			t.Fatalf("%s.%s is %v, and the referee's %v", at, name, field, want)
		}
	}
}

// fill sets fields of m at random: some not at all, some to the edges.
func fill(r *rand.Rand, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case r.IntN(3) == 0:
		case f.IsMap():
			for range r.IntN(4) {
				m.Mutable(f).Map().Set(scalar(r, f.MapKey()).MapKey(), scalar(r, f.MapValue()))
			}
		case f.IsList():
			for range r.IntN(4) {
				m.Mutable(f).List().Append(scalar(r, f))
			}
		case f.Message() != nil:
			fill(r, m.Mutable(f).Message())
		default:
			m.Set(f, scalar(r, f))
		}
	}
}

func scalar(r *rand.Rand, f protoreflect.FieldDescriptor) protoreflect.Value {
	number := r.Uint64() >> r.IntN(65)
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(number&1 != 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(number))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(number)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(bytes.Repeat([]byte{byte(number)}, r.IntN(300)))
	}
	return protoreflect.ValueOfString(strings.Repeat("aü", r.IntN(100)))
}

// TestRandomMessages: messages of every kind are the same bytes in both codecs.
func TestRandomMessages(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, p := range pairs {
		for range 500 {
			m := p.fresh().theirs
			fill(r, m.ProtoReflect())
			b := canonical(t, m)
			p.agree(t, b)
			p.agree(t, append(b, b...)) // every field twice
		}
	}
}

// TestWire: what a correct writer doesn't write, and what no reader may take.
func TestWire(t *testing.T) {
	deep := func(n int) []byte {
		return append(bytes.Repeat([]byte{0xa3, 0x06}, n), bytes.Repeat([]byte{0xa4, 0x06}, n)...)
	}
	cases := [][]byte{
		{},
		{0x00},                         // field 0
		{0x88, 0x00, 0x01},             // a key longer than it need be
		{0x08},                         // a key alone
		{0x08, 0x80},                   // half a number
		bytes.Repeat([]byte{0xff}, 12), // a number too long
		append([]byte{0x08}, append(bytes.Repeat([]byte{0xff}, 9), 1)...), // the largest
		append([]byte{0x08}, append(bytes.Repeat([]byte{0xff}, 9), 2)...), // one bit more
		{0x0a, 0x05},                   // longer than what is there
		{0x0a, 0x00},                   // empty
		{0x0a, 0x02, 0xff, 0xff},       // text or bytes or a message
		{0x09, 1, 2, 3, 4, 5, 6, 7, 8}, // another wire type
		{0x09, 1, 2, 3},
		{0x0d, 1, 2, 3, 4},
		{0x0d, 1},
		{0x0e, 1}, // wire types that don't exist
		{0x0f, 1},
		{0x0c},                   // the end of no group
		{0x0b, 0x08, 0x01, 0x0c}, // a group
		{0x0b, 0x08, 0x01, 0x14}, // ended as another
		{0x0b, 0x08, 0x01},
		{0x0b, 0xf8, 0xff, 0xff, 0xff, 0x3f, 0x01, 0x0c},       // in it, a number that fields don't have
		{0x0b, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0x01, 0x0c}, // and one that nothing has
		{0xf8, 0xff, 0xff, 0xff, 0x0f, 0x01},                   // the largest number of a field
		{0x80, 0x80, 0x80, 0x80, 0x10, 0x01},                   // one more
		deep(9999), deep(10000), deep(10001), deep(10002), deep(20000),
		{0x0a, 0x00, 0x12, 0x00, 0x0a, 0x00}, // both arms, and the first again
		{0x3a, 0x04, 0x0a, 0x02, 0x08, 0x01},
	}
	for _, p := range pairs {
		for _, b := range cases {
			p.agree(t, b)
		}
	}
}

// TestVectors holds our messages against the pinned bytes.
func TestVectors(t *testing.T) {
	var v struct {
		Vectors []struct{ Name, Message, Hex string }
	}
	testutil.Vectors(t, "messages.json", &v)
	seen := 0
	for _, c := range v.Vectors {
		for _, p := range pairs {
			if p.ours.Name() != c.Message {
				continue
			}
			seen++
			b := testutil.Hex(t, c.Hex)
			p.agree(t, b)
			m := p.fresh().ours
			if err := wire.Unmarshal(b, m); err != nil || hex.EncodeToString(wire.Marshal(m)) != c.Hex {
				t.Errorf("%s: %x, %v", c.Name, wire.Marshal(m), err)
			}
		}
	}
	if seen == 0 {
		t.Fatal("the vectors have none of our messages")
	}
}

// TestRepair: text that is not UTF-8 is an error of Append and repaired by
// Marshal; the message stays as it was.
func TestRepair(t *testing.T) {
	m := &wire.Refused{Reason: "a\xffb", Details: map[string]string{"k\xff": "v\xff", "a": "b"}}
	if got, err := wire.Append([]byte("before"), m); err == nil || string(got) != "before" {
		t.Errorf("appended %q, %v", got, err)
	}
	want := &wire.Refused{Reason: "a\ufffdb", Details: map[string]string{"k\ufffd": "v\ufffd", "a": "b"}}
	got := new(wire.Refused)
	if err := wire.Unmarshal(wire.Marshal(m), got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	n := &wire.Negotiated{Warnings: []string{"\xff", ""}}
	if err := wire.Unmarshal(wire.Marshal(n), n); err != nil || n.Warnings[2] != "\ufffd" || len(n.Warnings) != 4 {
		t.Errorf("got %q, %v", n.Warnings, err)
	}
	if m.Reason != "a\xffb" || m.Details["k\xff"] != "v\xff" {
		t.Error("the original was changed")
	}
}

// TestNotShared: a message keeps nothing of the bytes that it was read from.
func TestNotShared(t *testing.T) {
	b := wire.Marshal(&wire.Offer{Token: []byte("token"), Traceparent: "trace"})
	m := new(wire.Offer)
	if err := wire.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
	clear(b)
	if string(m.Token) != "token" || m.Traceparent != "trace" {
		t.Errorf("got %q, %q", m.Token, m.Traceparent)
	}
}

// TestEnums: the names are the schema's, a number without one is itself.
func TestEnums(t *testing.T) {
	for n := int32(-2); n < 30; n++ {
		for _, c := range [][2]fmt.Stringer{
			{wire.FrameKind(n), brokerpb.FrameKind(n)},
			{wire.PayloadEncoding(n), brokerpb.PayloadEncoding(n)},
			{wire.ErrorCode(n), brokerpb.ErrorCode(n)},
			{wire.AdminVerb(n), brokerpb.AdminVerb(n)},
			{wire.AdminReplyKind(n), brokerpb.AdminReplyKind(n)},
			{wire.BrokerIsolation(n), brokerpb.BrokerIsolation(n)},
			{wire.EventKind(n), brokerpb.EventKind(n)},
			{wire.NackReason(n), usherpb.NackReason(n)},
			{wire.ChannelKind(n), usherpb.ChannelKind(n)},
		} {
			if c[0].String() != c[1].String() {
				t.Errorf("%T(%d) is %s, and the referee's %s", c[0], n, c[0], c[1])
			}
		}
		if _, known := brokerpb.ErrorCode_name[n]; known != wire.ErrorCode(n).Known() {
			t.Errorf("ErrorCode(%d) known: %t", n, !known)
		}
	}
}

// FuzzCodec: whatever arrives, both codecs take it for the same.
func FuzzCodec(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for i, p := range pairs {
		for range 4 {
			m := p.fresh().theirs
			fill(r, m.ProtoReflect())
			b := canonical(f, m)
			f.Add(uint8(i), b)
			f.Add(uint8(i), protowire.AppendVarint(protowire.AppendTag(b, 2047, protowire.VarintType), 1))
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) { pairs[int(kind)%len(pairs)].agree(t, b) })
}

// BenchmarkFrame writes and reads an envelope, as every message does.
func BenchmarkFrame(b *testing.B) {
	m := &wire.Frame{EnvelopeVersion: 1, PayloadProtocol: 0xF001, RequestId: 7, Payload: make([]byte, 200)}
	room := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		out, _ := wire.Append(room, m)
		_ = wire.Unmarshal(out, new(wire.Frame))
	}
}

func BenchmarkOffer(b *testing.B) {
	m := &wire.Offer{Token: make([]byte, 16), HandoffId: 7, ConnectionId: 8, Preamble: make([]byte, 180), ClaimWord: 5, ClaimGeneration: 7}
	b.ReportAllocs()
	for b.Loop() {
		_ = wire.Unmarshal(wire.Marshal(m), new(wire.Offer))
	}
}
