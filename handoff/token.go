package handoff

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// TokenSize is the length of a token in bytes (spec 02 §2).
const TokenSize = 16

// Token names one handoff. It is a secret: every way of printing, logging or
// marshalling a Token gives the same fixed text. A struct with a Token in an
// unexported field needs a Format method of its own: fmt does not call methods
// on unexported fields and would print the bytes.
type Token [TokenSize]byte

const redacted = "token(redacted)"

// The texts of these errors are the specification's (spec 02 §2).
var (
	ErrTokenNotPending = errors.New("handoff token is not pending")
	ErrTokenMismatch   = errors.New("handoff token mismatch")
)

// Equal reports whether presented is this token. For a given length it takes
// the same time whatever the bytes are.
func (t Token) Equal(presented []byte) bool {
	return subtle.ConstantTimeCompare(t[:], presented) == 1
}

// String hides the token.
func (Token) String() string { return redacted }

// GoString hides the token.
func (Token) GoString() string { return redacted }

// Format hides the token for every verb, %x and %d included (%p aside, which go vet
// refuses).
func (Token) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// LogValue hides the token from log/slog.
func (Token) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the token from JSON and other text encodings.
func (Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }
