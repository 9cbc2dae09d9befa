package wire

import "strconv"

// enumName is a value's name in the schema, or its number when it has none.
func enumName(names []string, v int32) string {
	if v >= 0 && int(v) < len(names) && names[v] != "" {
		return names[v]
	}
	return strconv.Itoa(int(v))
}

// Known says that v1 defines the code.
func (v ErrorCode) Known() bool { return v >= 0 && int(v) < len(errorCodeNames) }
