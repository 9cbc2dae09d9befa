//go:build unix

package handoff_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestIssueFails: an attempt that cannot begin sends nothing and takes back what
// it has.
func TestIssueFails(t *testing.T) {
	errClaim := errors.New("no claim today")
	for _, c := range []struct {
		name   string
		prime  func(*handoff.TokenConfig, *handoff.Attempt)
		full   bool // another token is pending
		given  bool // the attempt brings its token
		ended  bool // the context has ended before
		stage  handoff.Stage
		reason handoff.Reason
		err    any
	}{
		{name: "pending limit", full: true, stage: handoff.StageIssue, reason: handoff.TokenUnavailable, err: new(*handoff.PendingLimitError)},
		{name: "no randomness", prime: func(config *handoff.TokenConfig, _ *handoff.Attempt) {
			config.Random = bytes.NewReader(nil)
		}, stage: handoff.StageIssue, reason: handoff.TokenUnavailable, err: new(*handoff.RandomError)},
		{name: "no claim", prime: func(_ *handoff.TokenConfig, a *handoff.Attempt) {
			a.NewClaim = func() (*handoff.Claim, error) { return nil, errClaim }
		}, stage: handoff.StageIssue, reason: handoff.ClaimUnavailable, err: errClaim},
		{name: "no claim for a given token", given: true, prime: func(_ *handoff.TokenConfig, a *handoff.Attempt) {
			a.NewClaim = func() (*handoff.Claim, error) { return nil, errClaim }
		}, stage: handoff.StageIssue, reason: handoff.ClaimUnavailable, err: errClaim},
		{name: "no preamble", prime: func(_ *handoff.TokenConfig, a *handoff.Attempt) {
			a.Preamble = func(handoff.Token) ([]byte, error) { return nil, errPlain }
		}, stage: handoff.StageSend, reason: handoff.ServicePolicyDisabled, err: errPlain},
		{name: "cancelled before", ended: true, stage: handoff.StageSend, reason: handoff.Cancelled, err: context.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			testutil.Leaks(t)
			transport := &fakeTransport{claims: true, flight: &flight{}}
			config := handoff.TokenConfig{MaxPending: 1, TTL: time.Minute, CollisionAttempts: 1}
			o, a := handoff.Orchestrator{}, handoff.Attempt{Transport: transport}
			if c.prime != nil {
				c.prime(&config, &a)
			}
			tokens := handoff.NewTokens(config)
			o.Tokens, o.Acks = tokens, handoff.NewAcks(tokens, deadline)
			var other handoff.Token
			if c.full || c.given {
				var err error
				if other, err = tokens.Issue(time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			if c.given {
				a.Token = &other
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.ended {
				cancel()
			}
			out := o.Handoff(ctx, a)
			want := handoff.Outcome{Verdict: handoff.NotTaken, Stage: c.stage, Reason: c.reason, Err: out.Err}
			if out != want {
				t.Errorf("got %+v, want %+v", out, want)
			}
			if err, isValue := c.err.(error); isValue && !errors.Is(out.Err, err) || !isValue && !errors.As(out.Err, c.err) {
				t.Errorf("error %v", out.Err)
			}
			if transport.sent != 0 {
				t.Error("something was sent")
			}
			if c.full && !tokens.Revoke(other) {
				t.Error("somebody else's token was revoked")
			}
			checkNothingLeft(t, tokens, o.Acks, transport)
		})
	}
}

// TestOfferIsFilledIn: the backend learns what the attempt says, the token and
// the preamble for it, and the wait can be replaced.
func TestOfferIsFilledIn(t *testing.T) {
	testutil.Leaks(t)
	tokens := handoff.NewTokens(handoff.DefaultTokenConfig())
	o := handoff.Orchestrator{Tokens: tokens, Acks: handoff.NewAcks(tokens, deadline)}
	given, err := tokens.Issue(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var told handoff.Token
	transport := &fakeTransport{claims: true, flight: &flight{}}
	o.AwaitAck = func(context.Context, handoff.Delivery) (handoff.Ack, error) { return transport.flight.ack() }
	now := epoch
	o.Clock = func() time.Time { now = now.Add(time.Millisecond); return now }
	out := o.Handoff(t.Context(), handoff.Attempt{
		Transport: transport,
		Offer:     handoff.Offer{Service: "svc", ConnectionID: 7, EarlyDataLen: 9, Traceparent: "p", Tracestate: "s"},
		Token:     &given,
		Preamble:  func(token handoff.Token) ([]byte, error) { told = token; return []byte("first"), nil },
	})
	got := transport.flight.offer
	if got.Claim == nil || got.Token != given || told != given || string(got.Preamble) != "first" {
		t.Errorf("token or preamble is not the attempt's: %q, claim %v", got.Preamble, got.Claim)
	}
	if got.Service != "svc" || got.ConnectionID != 7 || got.EarlyDataLen != 9 || got.Traceparent != "p" || got.Tracestate != "s" {
		t.Error("the offer was changed")
	}
	if out.Verdict != handoff.Adopted || out.Waited != 2*time.Millisecond || !out.SentAt.Equal(epoch.Add(2*time.Millisecond)) {
		t.Errorf("%s, waited %v, sent at %v", out.Verdict, out.Waited, out.SentAt)
	}
	checkNothingLeft(t, tokens, o.Acks, transport)
}

// TestLateByTheRegistry: the ACK came, but its deadline had passed since issue.
func TestLateByTheRegistry(t *testing.T) {
	testutil.Leaks(t)
	synctest.Test(t, func(t *testing.T) {
		tokens := handoff.NewTokens(handoff.DefaultTokenConfig())
		o := handoff.Orchestrator{Tokens: tokens, Acks: handoff.NewAcks(tokens, deadline)}
		transport := &fakeTransport{flight: &flight{}, backend: (*flight).ack}
		slow := func(handoff.Token) ([]byte, error) { time.Sleep(deadline); return nil, nil }
		out := o.Handoff(t.Context(), handoff.Attempt{Transport: transport, Preamble: slow})
		if out.Verdict != handoff.Adopted || !out.Late || !errors.As(out.Err, new(*handoff.AckDeadlineError)) {
			t.Errorf("got %+v", out)
		}
		checkNothingLeft(t, tokens, o.Acks, transport)
	})
}

// TestFailpoints are passed in the order of the flow, and the claim is won back
// before anything else is done.
func TestFailpoints(t *testing.T) {
	testutil.Leaks(t)
	for _, c := range []struct {
		backend func(*flight) (handoff.Ack, error)
		want    []failpoint.Point
	}{
		{take((*flight).ack), []failpoint.Point{failpoint.BrokerIssued, failpoint.BrokerSent, failpoint.BrokerAcked}},
		{(*flight).nack, []failpoint.Point{failpoint.BrokerIssued, failpoint.BrokerSent, failpoint.BrokerRevoked}},
		{take(gone), []failpoint.Point{failpoint.BrokerIssued, failpoint.BrokerSent}},
	} {
		var hits []failpoint.Point
		failpoint.Set(func(p failpoint.Point) { hits = append(hits, p) })
		tokens := handoff.NewTokens(handoff.DefaultTokenConfig())
		o := handoff.Orchestrator{Tokens: tokens, Acks: handoff.NewAcks(tokens, deadline)}
		o.Handoff(t.Context(), handoff.Attempt{Transport: &fakeTransport{claims: true, flight: &flight{}, backend: c.backend}})
		failpoint.Set(nil)
		if !slices.Equal(hits, c.want) {
			t.Errorf("passed %v, want %v", hits, c.want)
		}
	}
}

// TestManyAttemptsAtOnce share one orchestrator.
func TestManyAttemptsAtOnce(t *testing.T) {
	testutil.Leaks(t)
	tokens := handoff.NewTokens(handoff.DefaultTokenConfig())
	o := handoff.Orchestrator{Tokens: tokens, Acks: handoff.NewAcks(tokens, deadline)}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 20 {
				for _, c := range outcomeCases {
					if c.after != 0 || c.err == handoff.ErrTokenNotPending { // the sweep hits everybody
						continue
					}
					transport := &fakeTransport{claims: !c.v1, fail: c.fail, backend: c.backend, flight: &flight{}}
					if out := o.Handoff(t.Context(), handoff.Attempt{Transport: transport}); out.Verdict != c.verdict {
						t.Errorf("%s: ended %s, want %s", c.name, out.Verdict, c.verdict)
					}
				}
			}
		})
	}
	group.Wait()
	if tokens.Pending() != 0 || o.Acks.Pending() != 0 {
		t.Errorf("left pending: %d tokens, %d acknowledgements", tokens.Pending(), o.Acks.Pending())
	}
}
