package testutil

import (
	"encoding/hex"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/seed-7265657e/usher/internal/brokerpb" // registers the v1 messages
	"github.com/seed-7265657e/usher/internal/wire"
)

// Message builds the v1 message called name from the fields of a vector, in
// the conventions of the vector files: uint64 as decimal string, bytes as hex,
// enums as numbers, maps as objects. It goes by way of Protocol Buffers' bytes.
func Message(tb testing.TB, name string, fields map[string]any) wire.Message {
	tb.Helper()
	b, err := proto.Marshal(Proto(tb, name, fields))
	if err != nil {
		tb.Fatal(err)
	}
	m := New(tb, name)
	if err := wire.Unmarshal(b, m); err != nil {
		tb.Fatal(err)
	}
	return m
}

// New returns the empty v1 message called name.
func New(tb testing.TB, name string) wire.Message {
	tb.Helper()
	i := slices.IndexFunc(messages, func(m wire.Message) bool { return m.Name() == name })
	if i < 0 {
		tb.Fatalf("package wire has no message %s", name)
	}
	return reflect.New(reflect.TypeOf(messages[i]).Elem()).Interface().(wire.Message)
}

// messages are those of package wire that a vector names.
var messages = []wire.Message{
	&wire.Frame{}, &wire.Hello{}, &wire.HelloReply{}, &wire.HandoffOffer{}, &wire.HandoffAck{},
	&wire.AdminRequest{}, &wire.AdminReply{}, &wire.ServiceDefinition{}, &wire.DaemonProcess{},
}

// Equal says that a and b are the same message, which is the same bytes, or that
// neither is there.
func Equal(a, b wire.Message) bool {
	if reflect.ValueOf(a).IsNil() || reflect.ValueOf(b).IsNil() {
		return reflect.DeepEqual(a, b)
	}
	return a.Name() == b.Name() && slices.Equal(wire.Marshal(a), wire.Marshal(b))
}

// Clone returns a copy of m that shares nothing with it.
func Clone[T any, M interface {
	*T
	wire.Message
}](m M) M {
	clone := M(new(T))
	if err := wire.Unmarshal(wire.Marshal(m), clone); err != nil {
		panic(err) // what was just written can be read
	}
	return clone
}

// Refused is the refusal in a reply; an empty one when the reply refuses nothing.
func Refused(reply *wire.HelloReply) *wire.Refused {
	if reply.Refused == nil {
		return &wire.Refused{}
	}
	return reply.Refused
}

// Granted is the grant in a reply; an empty one when the reply grants nothing.
func Granted(reply *wire.HelloReply) *wire.Negotiated {
	if reply.Negotiated == nil {
		return &wire.Negotiated{}
	}
	return reply.Negotiated
}

// Proto is Message for the referee, Protocol Buffers, which have all of v1.
func Proto(tb testing.TB, name string, fields map[string]any) proto.Message {
	tb.Helper()
	m := NewProto(tb, name)
	fill(tb, m.ProtoReflect(), fields)
	return m
}

// NewProto returns the empty v1 message called name.
func NewProto(tb testing.TB, name string) proto.Message {
	tb.Helper()
	full := protoreflect.FullName("running_process.broker.v1." + name)
	kind, err := protoregistry.GlobalTypes.FindMessageByName(full)
	if err != nil {
		tb.Fatalf("%s: %v", full, err)
	}
	return kind.New().Interface()
}

// Hex decodes text that a vector promises to be hex.
func Hex(tb testing.TB, text string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func fill(tb testing.TB, m protoreflect.Message, fields map[string]any) {
	tb.Helper()
	for name, value := range fields {
		field := m.Descriptor().Fields().ByName(protoreflect.Name(name))
		if field == nil {
			tb.Fatalf("%s has no field %s", m.Descriptor().Name(), name)
		}
		switch {
		case field.IsMap():
			for k, v := range as[map[string]any](tb, value) {
				m.Mutable(field).Map().Set(protoreflect.ValueOfString(k).MapKey(), scalar(tb, field.MapValue(), v))
			}
		case field.IsList():
			list := m.Mutable(field).List()
			for _, v := range as[[]any](tb, value) {
				if field.Message() == nil {
					list.Append(scalar(tb, field, v))
					continue
				}
				fill(tb, list.AppendMutable().Message(), as[map[string]any](tb, v))
			}
		case field.Message() != nil:
			fill(tb, m.Mutable(field).Message(), as[map[string]any](tb, value))
		default:
			m.Set(field, scalar(tb, field, value))
		}
	}
}

func scalar(tb testing.TB, field protoreflect.FieldDescriptor, value any) protoreflect.Value {
	tb.Helper()
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(as[string](tb, value))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(Hex(tb, as[string](tb, value)))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(as[bool](tb, value))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(as[float64](tb, value)))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(as[float64](tb, value)))
	case protoreflect.Uint64Kind:
		n, err := strconv.ParseUint(as[string](tb, value), 10, 64)
		if err != nil {
			tb.Fatalf("%s: %v", field.Name(), err)
		}
		return protoreflect.ValueOfUint64(n)
	}
	tb.Fatalf("%s: no vector uses kind %s", field.Name(), field.Kind())
	return protoreflect.Value{}
}

func as[T any](tb testing.TB, value any) T {
	tb.Helper()
	t, ok := value.(T)
	if !ok {
		tb.Fatalf("vector holds %T where %T is expected", value, t)
	}
	return t
}
