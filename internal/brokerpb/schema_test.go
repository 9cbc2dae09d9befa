package brokerpb_test

import (
	"fmt"
	"maps"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/seed-7265657e/usher/internal/testutil"
)

type schema struct {
	Package  string
	Messages map[string]struct {
		Fields   []schemaField
		Reserved [][2]int
	}
	Enums map[string]struct {
		Values   map[string]int
		Reserved [][2]int
	}
}

type schemaField struct {
	Number            int
	Name, Type, Label string
}

// added is everything that usher puts beside the frozen schema.
var added = map[string]schemaField{
	"Hello.early_data_len": {Number: 100, Name: "early_data_len", Type: "uint32"},
	"Hello.own_build":      {Number: 101, Name: "own_build", Type: "bytes"},

	"AdminRequest.service_version": {Number: 100, Name: "service_version", Type: "string"},
}

// addedValues are the values that usher puts beside those of the frozen enums.
var addedValues = map[string]map[string]int{
	"AdminVerb": {
		"ADMIN_VERB_SERVICE_RESTART": 1001, "ADMIN_VERB_SERVICE_STOP": 1002,
		"ADMIN_VERB_SERVICE_PAUSE": 1003, "ADMIN_VERB_SERVICE_RESUME": 1004, "ADMIN_VERB_UPGRADE": 1005,
	},
}

// TestSchema compares the generated descriptors with the frozen v1 schema, in
// both directions: nothing missing, nothing more, nothing moved.
func TestSchema(t *testing.T) {
	var want schema
	testutil.Vectors(t, "schema.json", &want)

	messages, enums := 0, 0
	protoregistry.GlobalFiles.RangeFilesByPackage(protoreflect.FullName(want.Package), func(f protoreflect.FileDescriptor) bool {
		for i := range f.Messages().Len() {
			messages++
			m := f.Messages().Get(i)
			w, known := want.Messages[string(m.Name())]
			if !known {
				t.Errorf("message %s is not in v1", m.Name())
				continue
			}
			compareFields(t, m, w.Fields)
			compareReserved(t, m.Name(), reservedFields(m), w.Reserved)
		}
		for i := range f.Enums().Len() {
			enums++
			e := f.Enums().Get(i)
			w, known := want.Enums[string(e.Name())]
			if !known {
				t.Errorf("enum %s is not in v1", e.Name())
				continue
			}
			compareValues(t, e, w.Values)
			compareReserved(t, e.Name(), reservedValues(e), w.Reserved)
		}
		return true
	})
	if messages != len(want.Messages) || enums != len(want.Enums) {
		t.Errorf("%d messages and %d enums, want %d and %d", messages, enums, len(want.Messages), len(want.Enums))
	}
}

func compareFields(t *testing.T, m protoreflect.MessageDescriptor, want []schemaField) {
	t.Helper()
	expected := make(map[string]schemaField)
	for _, f := range want {
		expected[f.Name] = f
	}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		name := string(f.Name())
		got := schemaField{Number: int(f.Number()), Name: name, Type: typeName(f), Label: label(f)}
		w, known := expected[name]
		if !known {
			w = added[fmt.Sprintf("%s.%s", m.Name(), name)]
		}
		if got != w {
			t.Errorf("%s: got %+v, want %+v", m.Name(), got, w)
		}
		delete(expected, name)
	}
	for name := range expected {
		t.Errorf("%s.%s is missing", m.Name(), name)
	}
}

func typeName(f protoreflect.FieldDescriptor) string {
	switch {
	case f.IsMap():
		return fmt.Sprintf("map<%s,%s>", typeName(f.MapKey()), typeName(f.MapValue()))
	case f.Message() != nil:
		return string(f.Message().Name())
	case f.Enum() != nil:
		return string(f.Enum().Name())
	}
	return f.Kind().String()
}

func label(f protoreflect.FieldDescriptor) string {
	switch oneof := f.ContainingOneof(); {
	case f.IsList():
		return "repeated"
	case f.HasOptionalKeyword():
		return "optional"
	case oneof != nil:
		return "oneof:" + string(oneof.Name())
	}
	return ""
}

func compareValues(t *testing.T, e protoreflect.EnumDescriptor, want map[string]int) {
	t.Helper()
	expected := maps.Clone(want)
	maps.Copy(expected, addedValues[string(e.Name())])
	if e.Values().Len() != len(expected) {
		t.Errorf("%s has %d values, want %d", e.Name(), e.Values().Len(), len(expected))
	}
	for i := range e.Values().Len() {
		v := e.Values().Get(i)
		if number, known := expected[string(v.Name())]; !known || number != int(v.Number()) {
			t.Errorf("%s: %s = %d is not in v1", e.Name(), v.Name(), v.Number())
		}
	}
}

// reservedFields gives inclusive ranges; descriptors keep the end exclusive for
// messages and inclusive for enums.
func reservedFields(m protoreflect.MessageDescriptor) (ranges [][2]int) {
	for i := range m.ReservedRanges().Len() {
		r := m.ReservedRanges().Get(i)
		ranges = append(ranges, [2]int{int(r[0]), int(r[1]) - 1})
	}
	return ranges
}

func reservedValues(e protoreflect.EnumDescriptor) (ranges [][2]int) {
	for i := range e.ReservedRanges().Len() {
		r := e.ReservedRanges().Get(i)
		ranges = append(ranges, [2]int{int(r[0]), int(r[1])})
	}
	return ranges
}

func compareReserved(t *testing.T, name protoreflect.Name, got, want [][2]int) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s reserves %v, want %v", name, got, want)
	}
}
