// Package names judges the names that travel on the wire and end up in socket
// and file paths: service names, versions and user hashes (spec 01 §6). It is
// pure, every package may import it, and no descriptor passes through it.
package names

import "fmt"

const (
	// MaxServiceName is the longest service or instance name in bytes.
	MaxServiceName = 64
	// UserHashLen is the length of a user hash in bytes.
	UserHashLen = 16
)

// InvalidError says which value broke which rule.
type InvalidError struct {
	Field string // wire name of the value, for example "service_name"
	Value string // as given, of any length
	Rule  string // what a valid value looks like
}

// Error quotes at most the first 80 bytes of the value: it may come from a
// peer and be of any length.
func (e *InvalidError) Error() string {
	value, more := e.Value, ""
	if len(value) > 80 {
		value, more = value[:80], "…"
	}
	return fmt.Sprintf("invalid %s %q%s: use %s", e.Field, value, more, e.Rule)
}

// ServiceName accepts [a-z0-9-]{1,64}. Upper case is refused because Windows
// pipe names ignore case. Explicit instance names follow the same rule.
func ServiceName(s string) error {
	if s == "" || len(s) > MaxServiceName || !all(s, isNameByte) {
		return &InvalidError{Field: "service_name", Value: s, Rule: "1 to 64 of a-z, 0-9 and -"}
	}
	return nil
}

// UserHash accepts exactly 16 lowercase hex digits.
func UserHash(s string) error {
	if len(s) != UserHashLen || !all(s, isHexByte) {
		return &InvalidError{Field: "user hash", Value: s, Rule: "16 of 0-9 and a-f"}
	}
	return nil
}

func isNameByte(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'z' || c == '-'
}

func isHexByte(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'f'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func all(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}
