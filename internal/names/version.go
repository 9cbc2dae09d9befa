package names

import "strings"

// Version accepts digits "." digits "." digits, optionally followed by "-" and
// one or more of a-z, 0-9 and ".". Leading zeros are legal, a second "-" and a
// "+build" part are not. It sets no length: callers that need a cap (Hello has
// one of 64 bytes) apply it themselves.
func Version(s string) error {
	core, tail, hasTail := strings.Cut(s, "-")
	if !isCore(core) || hasTail && (tail == "" || !all(tail, isTailByte)) {
		return &InvalidError{Field: "version", Value: s, Rule: "a form like 1.2.3 or 1.2.3-rc.1, in lower case"}
	}
	return nil
}

// isCore reports whether s is three runs of digits with a dot between them.
func isCore(s string) bool {
	for range 2 {
		part, rest, found := strings.Cut(s, ".")
		if !found || part == "" || !all(part, isDigit) {
			return false
		}
		s = rest
	}
	return s != "" && all(s, isDigit)
}

func isTailByte(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'z' || c == '.'
}
