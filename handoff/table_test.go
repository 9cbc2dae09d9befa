package handoff

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// epoch is time 0 of every vector.
var epoch = time.Unix(1_700_000_000, 0)

func at(ms int) time.Time { return epoch.Add(millis(ms)) }

func millis(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }

func hexToken(t *testing.T, text string) Token {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != TokenSize {
		t.Fatalf("token %q: %v", text, err)
	}
	return Token(raw)
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

func randomTable(maxPending, tries int, random io.Reader) *Table {
	return NewTable(Config{MaxPending: maxPending, CollisionAttempts: tries, Random: random})
}

// store drives a Table by tokens, as the vectors of token store and ACK registry do.
// A table has one record where those have two: what is issued is registered, for
// life.
type store struct {
	t      *testing.T
	table  *Table
	random *scriptedRandom
	life   time.Duration
	issued map[Token]*Attempt // the last one of each token
}

func newStore(t *testing.T, maxPending, tries, lifeMS int) *store {
	random := &scriptedRandom{t: t}
	return &store{t, randomTable(maxPending, tries, random), random, millis(lifeMS), make(map[Token]*Attempt)}
}

func (s *store) issue(service string, ms int, candidates ...Token) string {
	s.random.left.Reset()
	for _, c := range candidates {
		s.random.left.Write(c[:])
	}
	a := &Attempt{Backend: Backend{Service: service}}
	if err := s.table.Issue(a, s.life, at(ms)); err != nil {
		return errorName(err)
	}
	s.issued[a.token] = a
	return hex.EncodeToString(a.token[:])
}

// pending returns the attempt that has the token, or nil.
func (s *store) pending(token Token) *Attempt {
	if a := s.issued[token]; a != nil && a.table != nil {
		return a
	}
	return nil
}

// acknowledge ends the attempt whose token is expected.
func (s *store) acknowledge(expected, presented Token, ms int) (*Attempt, time.Duration, error) {
	a := s.issued[expected]
	if a == nil {
		return nil, 0, ErrTokenNotPending
	}
	waited, err := a.acknowledge(presented[:], at(ms))
	return a, waited, err
}

// revoke abandons the attempt, and reports whether there was one.
func (s *store) revoke(token Token) bool {
	a := s.pending(token)
	if a != nil {
		a.Close()
	}
	return a != nil
}

// prune does at once what the table does when it is full.
func (s *store) prune(ms int) (expired []*Attempt) {
	before := s.table.On(nil)
	s.table.expire(at(ms))
	for _, a := range before {
		if a.table == nil {
			expired = append(expired, a)
		}
	}
	return expired
}

func errorName(err error) string {
	var limit *PendingLimitError
	var collision *CollisionError
	var late *AckDeadlineError
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrTokenNotPending):
		return "TokenNotPending"
	case errors.As(err, &late): // the token lives as long as its acknowledgement may take
		return "TokenExpired"
	case errors.Is(err, ErrTokenMismatch):
		return "TokenMismatch"
	case errors.As(err, &limit):
		return fmt.Sprintf("PendingLimitReached(%d)", limit.Max)
	case errors.As(err, &collision):
		return fmt.Sprintf("CollisionExhausted(%d)", collision.Attempts)
	}
	return err.Error()
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
			s := newStore(t, scenario.Config.MaxPending, scenario.Config.CollisionAttempts, scenario.Config.TTL)
			for i, step := range scenario.Steps {
				want := fmt.Sprint(step.Expect)
				if got := s.tokenStep(step); got != want {
					t.Fatalf("step %d, %s at %d: got %s, want %s", i, step.Op, step.At, got, want)
				}
			}
		})
	}
}

func (s *store) tokenStep(step tokenStep) string {
	s.t.Helper()
	switch step.Op {
	case "issue":
		var candidates []Token
		if given, ok := step.Random.([]any); ok {
			for _, c := range given {
				candidates = append(candidates, hexToken(s.t, c.(string)))
			}
		}
		return s.issue("", step.At, candidates...)
	case "consume":
		_, _, err := s.acknowledge(hexToken(s.t, step.Expected), hexToken(s.t, step.Presented), step.At)
		if err == nil {
			s.prune(step.At)
		}
		return errorName(err)
	case "revoke":
		return fmt.Sprint(s.revoke(hexToken(s.t, step.Token)))
	case "prune":
		return fmt.Sprint(len(s.prune(step.At)))
	case "pending":
		return fmt.Sprint(s.table.Pending())
	}
	s.t.Fatalf("unknown operation %q", step.Op)
	return ""
}

func TestTokenDefaults(t *testing.T) {
	want := readTokenVectors(t).TokenStore.Defaults
	got := DefaultConfig()
	if TokenSize != want.TokenBytes || got.MaxPending != want.MaxPending || got.CollisionAttempts != want.CollisionAttempts {
		t.Errorf("got %d-byte tokens and %+v, want %+v", TokenSize, got, want)
	}
}

// TestTokenClamps shows each clamp by what the table does with it.
func TestTokenClamps(t *testing.T) {
	for _, clamp := range readTokenVectors(t).TokenStore.Clamps {
		t.Run(clamp.Field, func(t *testing.T) {
			limit, tries, life := 1024, 16, time.Minute
			switch clamp.Field {
			case "max_pending":
				limit = clamp.Given
			case "ttl_ms":
				life = millis(clamp.Given)
			case "collision_attempts":
				tries = clamp.Given
			}
			table := randomTable(limit, tries, strings.NewReader(strings.Repeat("x", 3*TokenSize)))
			var first, second Attempt
			if err := table.Issue(&first, life, at(0)); err != nil {
				t.Fatal(err)
			}
			err := table.Issue(&second, life, at(0))
			var full *PendingLimitError
			var collision *CollisionError
			switch clamp.Field {
			case "max_pending":
				if !errors.As(err, &full) || full.Max != clamp.Used {
					t.Errorf("got %v, want a limit of %d", err, clamp.Used)
				}
			case "ttl_ms":
				end := at(clamp.Used)
				if table.expire(end.Add(-1)); table.Pending() != 1 {
					t.Error("it expired early")
				}
				if table.expire(end); table.Pending() != 0 {
					t.Error("it did not expire")
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
		"handoff token mismatch":                                        ErrTokenMismatch,
		"handoff token is not pending":                                  ErrTokenNotPending,
		"handoff token pending limit reached (3)":                       &PendingLimitError{Max: 3},
		"handoff token allocation exhausted after 4 collision attempts": &CollisionError{Attempts: 4},
		"handoff token random generation failed: no entropy":            &RandomError{Err: errors.New("no entropy")},
	} {
		if err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func TestIssueReportsRandomFailure(t *testing.T) {
	broken := errors.New("no entropy")
	table := randomTable(1, 1, failingReader{broken})
	var random *RandomError
	if err := table.Issue(new(Attempt), 0, at(0)); !errors.As(err, &random) || !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if table.Pending() != 0 {
		t.Error("an attempt is pending")
	}
}

// TestIssueReadsOddAmounts feeds a source that ends in the middle of a token: the
// rest is not used.
func TestIssueReadsOddAmounts(t *testing.T) {
	table := randomTable(4, 1, strings.NewReader(strings.Repeat("a", 16)+strings.Repeat("b", 16)+"ccc"))
	for _, want := range []string{"a", "b"} {
		var a Attempt
		if err := table.Issue(&a, 0, at(0)); err != nil || string(a.token[:]) != strings.Repeat(want, 16) {
			t.Fatalf("got %q, %v; want 16 times %s", a.token[:], err, want)
		}
	}
	if err := table.Issue(new(Attempt), 0, at(0)); err == nil {
		t.Error("a token was made of 3 bytes")
	}
}

// TestCandidatesAreWiped: a token is where its attempt is, and nowhere else.
func TestCandidatesAreWiped(t *testing.T) {
	table := NewTable(DefaultConfig())
	for range 40 { // more than one block
		var a Attempt
		if err := table.Issue(&a, time.Minute, at(0)); err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(table.tokens.block[:], a.token[:]) {
			t.Fatal("the token is in the block of random bytes still")
		}
	}
}

// TestFullTableExpires: attempts that are overdue don't count against the limit, the
// one that was issued last first included; and one that is not overdue stays.
func TestFullTableExpires(t *testing.T) {
	table := NewTable(Config{MaxPending: 3, CollisionAttempts: 16})
	var long, short, shorter, next Attempt
	for _, issue := range []struct {
		a    *Attempt
		life int
	}{{&long, 100}, {&short, 20}, {&shorter, 10}} {
		if err := table.Issue(issue.a, millis(issue.life), at(0)); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Issue(&next, 0, at(9)); err == nil {
		t.Error("more than the limit are pending")
	}
	if err := table.Issue(&next, millis(100), at(10)); err != nil || shorter.table != nil || short.table == nil {
		t.Errorf("%v; the one that is overdue pending %v, the other %v", err, shorter.table != nil, short.table != nil)
	}
	if err := table.Issue(&shorter, millis(100), at(20)); err != nil || short.table != nil || long.table == nil {
		t.Errorf("%v; the one that is overdue pending %v, the other %v", err, short.table != nil, long.table != nil)
	}
	if table.Pending() != 3 {
		t.Errorf("%d are pending", table.Pending())
	}
}
