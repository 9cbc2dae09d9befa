package handoff_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// epoch is time 0 of every vector.
var epoch = time.Unix(1_700_000_000, 0)

func at(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }

func millis(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }

func hexToken(t *testing.T, text string) handoff.Token {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	token, err := handoff.ParseToken(raw)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// scriptedRandom gives out the queued bytes and fails the test when asked for
// more.
type scriptedRandom struct {
	t    *testing.T
	left bytes.Buffer
}

func (r *scriptedRandom) Read(p []byte) (int, error) {
	if r.left.Len() == 0 {
		r.t.Error("the random source was called")
		return 0, errors.New("called")
	}
	return r.left.Read(p)
}

type clampVector struct {
	Field string `json:"field"`
	Given int    `json:"given"`
	Used  int    `json:"used"`
}

type tokenStep struct {
	Op        string `json:"op"`
	At        int    `json:"at"`
	Random    any    `json:"random"`
	Expected  string `json:"expected"`
	Presented string `json:"presented"`
	Token     string `json:"token"`
	Expect    any    `json:"expect"`
}

type tokenVectors struct {
	TokenStore struct {
		Defaults struct {
			TokenBytes        int `json:"token_bytes"`
			MaxPending        int `json:"max_pending"`
			TTL               int `json:"ttl_ms"`
			CollisionAttempts int `json:"collision_attempts"`
		} `json:"defaults"`
		Clamps    []clampVector `json:"clamps"`
		Scenarios []struct {
			Name   string `json:"name"`
			Config struct {
				MaxPending        int `json:"max_pending"`
				TTL               int `json:"ttl_ms"`
				CollisionAttempts int `json:"collision_attempts"`
			} `json:"config"`
			Steps []tokenStep `json:"steps"`
		} `json:"scenarios"`
	} `json:"token_store"`
}

func readTokenVectors(t *testing.T) tokenVectors {
	t.Helper()
	var v tokenVectors
	testutil.Vectors(t, "behaviour.json", &v)
	if len(v.TokenStore.Scenarios) == 0 {
		t.Fatal("no scenarios")
	}
	return v
}

func TestTokenVectors(t *testing.T) {
	for _, scenario := range readTokenVectors(t).TokenStore.Scenarios {
		t.Run(scenario.Name, func(t *testing.T) {
			random := &scriptedRandom{t: t}
			tokens := handoff.NewTokens(handoff.TokenConfig{
				MaxPending:        scenario.Config.MaxPending,
				TTL:               millis(scenario.Config.TTL),
				CollisionAttempts: scenario.Config.CollisionAttempts,
				Random:            random,
			})
			for i, step := range scenario.Steps {
				random.left.Reset()
				want := fmt.Sprint(step.Expect)
				if got := runTokenStep(t, tokens, random, step); got != want {
					t.Fatalf("step %d, %s at %d: got %s, want %s", i, step.Op, step.At, got, want)
				}
			}
		})
	}
}

func runTokenStep(t *testing.T, tokens *handoff.Tokens, random *scriptedRandom, step tokenStep) string {
	t.Helper()
	switch step.Op {
	case "issue":
		if candidates, ok := step.Random.([]any); ok {
			for _, candidate := range candidates {
				token := hexToken(t, candidate.(string))
				random.left.Write(token[:])
			}
		}
		token, err := tokens.Issue(at(step.At))
		if err != nil {
			return tokenErrorName(err)
		}
		return hex.EncodeToString(token[:])
	case "consume":
		presented := hexToken(t, step.Presented)
		return tokenErrorName(tokens.Consume(hexToken(t, step.Expected), presented[:], at(step.At)))
	case "revoke":
		return fmt.Sprint(tokens.Revoke(hexToken(t, step.Token)))
	case "prune":
		return fmt.Sprint(tokens.Prune(at(step.At)))
	case "pending":
		return fmt.Sprint(tokens.Pending())
	default:
		t.Fatalf("unknown operation %q", step.Op)
		return ""
	}
}

func tokenErrorName(err error) string {
	var limit *handoff.PendingLimitError
	var collision *handoff.CollisionError
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, handoff.ErrTokenNotPending):
		return "TokenNotPending"
	case errors.Is(err, handoff.ErrTokenExpired):
		return "TokenExpired"
	case errors.Is(err, handoff.ErrTokenMismatch):
		return "TokenMismatch"
	case errors.As(err, &limit):
		return fmt.Sprintf("PendingLimitReached(%d)", limit.Max)
	case errors.As(err, &collision):
		return fmt.Sprintf("CollisionExhausted(%d)", collision.Attempts)
	default:
		return err.Error()
	}
}

func TestTokenDefaults(t *testing.T) {
	want := readTokenVectors(t).TokenStore.Defaults
	got := handoff.DefaultTokenConfig()
	if handoff.TokenSize != want.TokenBytes || got.MaxPending != want.MaxPending ||
		got.TTL != millis(want.TTL) || got.CollisionAttempts != want.CollisionAttempts {
		t.Errorf("got %d-byte tokens and %+v, want %+v", handoff.TokenSize, got, want)
	}
}

// TestTokenClamps shows each clamp by what the store does with it.
func TestTokenClamps(t *testing.T) {
	for _, clamp := range readTokenVectors(t).TokenStore.Clamps {
		t.Run(clamp.Field, func(t *testing.T) {
			config := handoff.DefaultTokenConfig()
			config.Random = strings.NewReader(strings.Repeat("x", 3*handoff.TokenSize))
			switch clamp.Field {
			case "max_pending":
				config.MaxPending = clamp.Given
			case "ttl_ms":
				config.TTL = millis(clamp.Given)
			case "collision_attempts":
				config.CollisionAttempts = clamp.Given
			}
			tokens := handoff.NewTokens(config)
			if _, err := tokens.Issue(at(0)); err != nil {
				t.Fatal(err)
			}
			_, err := tokens.Issue(at(0))
			var limit *handoff.PendingLimitError
			var collision *handoff.CollisionError
			switch clamp.Field {
			case "max_pending":
				if !errors.As(err, &limit) || limit.Max != clamp.Used {
					t.Errorf("got %v, want a limit of %d", err, clamp.Used)
				}
			case "ttl_ms":
				end := at(clamp.Used)
				if early := tokens.Prune(end.Add(-1)); early != 0 {
					t.Errorf("%d expired early", early)
				}
				if due := tokens.Prune(end); due != 1 {
					t.Errorf("%d expired, want 1", due)
				}
			case "collision_attempts":
				if !errors.As(err, &collision) || collision.Attempts != clamp.Used {
					t.Errorf("got %v, want %d attempts", err, clamp.Used)
				}
			default:
				t.Errorf("unknown field %q", clamp.Field)
			}
		})
	}
}

func TestTokenErrorTexts(t *testing.T) {
	for want, err := range map[string]error{
		"handoff token mismatch":                                        handoff.ErrTokenMismatch,
		"handoff token expired":                                         handoff.ErrTokenExpired,
		"handoff token is not pending":                                  handoff.ErrTokenNotPending,
		"handoff token is missing":                                      handoff.ErrTokenMissing,
		"handoff token length was 15 bytes; expected 16":                &handoff.TokenLengthError{Length: 15},
		"handoff token pending limit reached (3)":                       &handoff.PendingLimitError{Max: 3},
		"handoff token allocation exhausted after 4 collision attempts": &handoff.CollisionError{Attempts: 4},
		"handoff token random generation failed: no entropy":            &handoff.RandomError{Err: errors.New("no entropy")},
	} {
		if err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
}

func TestIssueReportsRandomFailure(t *testing.T) {
	broken := errors.New("no entropy")
	config := handoff.DefaultTokenConfig()
	config.Random = failingReader{broken}
	tokens := handoff.NewTokens(config)
	_, err := tokens.Issue(at(0))
	var random *handoff.RandomError
	if !errors.As(err, &random) || !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if tokens.Pending() != 0 {
		t.Error("a token is pending")
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// TestIssueReadsOddAmounts feeds a source that ends in the middle of a token: the
// rest is not used.
func TestIssueReadsOddAmounts(t *testing.T) {
	config := handoff.DefaultTokenConfig()
	config.Random = strings.NewReader(strings.Repeat("a", 16) + strings.Repeat("b", 16) + "ccc")
	tokens := handoff.NewTokens(config)
	for _, want := range []string{"a", "b"} {
		token, err := tokens.Issue(at(0))
		if err != nil || string(token[:]) != strings.Repeat(want, 16) {
			t.Fatalf("got %q, %v; want 16 times %s", token[:], err, want)
		}
	}
	if _, err := tokens.Issue(at(0)); err == nil {
		t.Error("a token was made of 3 bytes")
	}
}
