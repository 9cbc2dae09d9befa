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

// ErrTokenMissing reports an empty token (spec 02 §8 row 4).
var ErrTokenMissing = errors.New("handoff token is missing")

// TokenLengthError reports a presented token that is not TokenSize bytes long
// (spec 02 §8 row 5).
type TokenLengthError struct {
	Length int // bytes presented
}

func (e *TokenLengthError) Error() string {
	return fmt.Sprintf("handoff token length was %d bytes; expected %d", e.Length, TokenSize)
}

// ParseToken copies a token that arrived in a message. It fails with
// ErrTokenMissing or *TokenLengthError; the texts travel in
// HandoffAck.error_detail.
func ParseToken(presented []byte) (Token, error) {
	switch len(presented) {
	case TokenSize:
		return Token(presented), nil
	case 0:
		return Token{}, ErrTokenMissing
	default:
		return Token{}, &TokenLengthError{Length: len(presented)}
	}
}

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
