package handoff_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/handoff"
)

func TestTokenIsNeverShown(t *testing.T) {
	secret := handoff.Token([]byte("SIXTEEN-SECRETS!"))
	shown := map[string]string{"String": secret.String(), "GoString": secret.GoString()}
	type holder struct{ Token handoff.Token }
	// %p is missing: fmt does not ask the value for it, and go vet refuses it.
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%z", "%-40.3s"} {
		shown[verb] = fmt.Sprintf(verb, secret)
		shown[verb+" of a pointer"] = fmt.Sprintf(verb, &secret)
		shown[verb+" of a slice"] = fmt.Sprintf(verb, []handoff.Token{secret})
		shown[verb+" of a struct"] = fmt.Sprintf(verb, holder{secret})
		shown[verb+" of an acknowledgement"] = fmt.Sprintf(verb, handoff.Acked{Token: secret})
		shown[verb+" of an overdue one"] = fmt.Sprintf(verb, handoff.Overdue{Token: secret})
	}
	asJSON, err := json.Marshal(map[handoff.Token]holder{secret: {secret}})
	if err != nil {
		t.Fatal(err)
	}
	shown["json"] = string(asJSON)
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"slog json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var log bytes.Buffer
		slog.New(handler(&log)).Info("x", "token", secret, "held", holder{secret})
		shown[name] = log.String()
	}
	for how, text := range shown {
		if !strings.Contains(text, "token(redacted)") || leaks(text) {
			t.Errorf("%s shows %q", how, text)
		}
	}
}

// TestStoresDoNotShowTokens prints what holds tokens in unexported fields.
func TestStoresDoNotShowTokens(t *testing.T) {
	config := handoff.DefaultTokenConfig()
	config.Random = strings.NewReader("SIXTEEN-SECRETS!")
	tokens := handoff.NewTokens(config)
	acks := handoff.NewAcks(tokens, 0)
	token, err := tokens.Issue(epoch)
	if err != nil {
		t.Fatal(err)
	}
	acks.Register(token, handoff.Backend{}, epoch)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, store := range []any{tokens, acks} {
			if text := fmt.Sprintf(verb, store); leaks(text) || !strings.Contains(text, "redacted") {
				t.Errorf("%s shows %q", verb, text)
			}
		}
	}
}

// leaks looks for the first bytes of the secret in the forms that fmt has.
func leaks(text string) bool {
	for _, form := range []string{"SIX", "534958", "53 49", "83 73", "83, 73", "83,73", "0x53", "123 111"} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

func TestTokenEqual(t *testing.T) {
	token := handoff.Token([]byte("SIXTEEN-SECRETS!"))
	for presented, want := range map[string]bool{
		"SIXTEEN-SECRETS!":  true,
		"SIXTEEN-SECRETS?":  false,
		"sIXTEEN-SECRETS!":  false,
		"SIXTEEN-SECRETS":   false,
		"SIXTEEN-SECRETS!!": false,
		"":                  false,
	} {
		if got := token.Equal([]byte(presented)); got != want {
			t.Errorf("Equal(%q) = %v", presented, got)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(make([]byte, 15))
	f.Add([]byte("SIXTEEN-SECRETS!"))
	f.Add(make([]byte, 17))
	f.Fuzz(func(t *testing.T, presented []byte) {
		token, err := handoff.ParseToken(presented)
		var length *handoff.TokenLengthError
		switch {
		case len(presented) == handoff.TokenSize:
			if err != nil || !token.Equal(presented) {
				t.Errorf("refused: %v", err)
			}
		case len(presented) == 0:
			if !errors.Is(err, handoff.ErrTokenMissing) {
				t.Errorf("got %v", err)
			}
		case !errors.As(err, &length) || length.Length != len(presented):
			t.Errorf("got %v", err)
		}
	})
}
