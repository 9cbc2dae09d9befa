package handoff

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestTokenIsNeverShown(t *testing.T) {
	secret := Token([]byte("SIXTEEN-SECRETS!"))
	shown := map[string]string{"String": secret.String(), "GoString": secret.GoString()}
	type holder struct{ Token Token }
	// %p is missing: fmt does not ask the value for it, and go vet refuses it.
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%z", "%-40.3s"} {
		shown[verb] = fmt.Sprintf(verb, secret)
		shown[verb+" of a pointer"] = fmt.Sprintf(verb, &secret)
		shown[verb+" of a slice"] = fmt.Sprintf(verb, []Token{secret})
		shown[verb+" of a struct"] = fmt.Sprintf(verb, holder{secret})
	}
	asJSON, err := json.Marshal(map[Token]holder{secret: {secret}})
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

// TestRecordsDoNotShowTokens prints what holds tokens in unexported fields.
func TestRecordsDoNotShowTokens(t *testing.T) {
	table := NewTable(Config{Random: strings.NewReader("SIXTEEN-SECRETS!")})
	var a Attempt
	if err := table.Issue(&a, time.Minute, epoch); err != nil || string(a.token[:]) != "SIXTEEN-SECRETS!" {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, record := range []any{table, &a} {
			if text := fmt.Sprintf(verb, record); leaks(text) || !strings.Contains(text, "redacted") {
				t.Errorf("%s of a %T shows %q", verb, record, text)
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
	token := Token([]byte("SIXTEEN-SECRETS!"))
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
