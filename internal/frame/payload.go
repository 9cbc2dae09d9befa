package frame

import (
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// rooms are buffers for what is encoded before its length is known.
var rooms = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

// Marshal encodes a payload the way Append encodes a frame. The only thing a
// proto3 message can't carry is text that is not UTF-8, say from an error that
// names a file; such text is repaired with U+FFFD, because a peer that waits
// for an answer is better served by a mark in it than by none.
func Marshal(m proto.Message) []byte {
	room := rooms.Get().(*[]byte)
	defer rooms.Put(room)
	if payload, ok := encodeDirect((*room)[:0], m); ok {
		*room = payload
		return append([]byte(nil), payload...)
	}
	options := proto.MarshalOptions{Deterministic: true}
	payload, err := options.Marshal(m)
	if err == nil {
		return payload
	}
	repaired := proto.Clone(m)
	repairText(repaired.ProtoReflect())
	// What was left to fail is gone; an empty payload would be judged by the
	// peer like any malformed one.
	payload, _ = options.Marshal(repaired)
	return payload
}

// repairText makes every text in m valid UTF-8, in place.
func repairText(m protoreflect.Message) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			repairMap(field, value.Map())
		case field.IsList():
			list := value.List()
			for i := range list.Len() {
				list.Set(i, repaired(field, list.Get(i)))
			}
		default:
			m.Set(field, repaired(field, value))
		}
		return true
	})
}

// repairMap relies on what holds for every map of the wire: keys are text.
func repairMap(field protoreflect.FieldDescriptor, entries protoreflect.Map) {
	fixed := make(map[string]protoreflect.Value, entries.Len())
	entries.Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
		entries.Clear(key)
		fixed[validText(key.String())] = repaired(field.MapValue(), value)
		return true
	})
	for key, value := range fixed {
		entries.Set(protoreflect.ValueOfString(key).MapKey(), value)
	}
}

func repaired(field protoreflect.FieldDescriptor, value protoreflect.Value) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(validText(value.String()))
	case protoreflect.MessageKind:
		repairText(value.Message())
	}
	return value
}

func validText(s string) string { return strings.ToValidUTF8(s, "\ufffd") }
