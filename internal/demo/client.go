package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/examples/notes/notes"
	"github.com/seed-7265657e/usher/internal/wait"
	"github.com/seed-7265657e/usher/internal/world"
)

// requestTimeout bounds one request. One that gets so far has no verdict.
const requestTimeout = 20 * time.Second

// errands is what a client of the demo is asked to do, one after the other.
type errands struct {
	Requests  int    `json:"requests"`
	Prefix    string `json:"prefix"` // of the request ids
	NoHandoff bool   `json:"no_handoff,omitempty"`
	// Session uses one connection for all, and for later errands with Session
	// set; otherwise each request gets a fresh one.
	Session bool `json:"session,omitempty"`
	// UntilTold ends them early: at the end of the client's input, when the request under
	// way has its answer.
	UntilTold bool `json:"until_told,omitempty"`
}

// tally is what became of the requests of one errand. Answered, Unknown, Refused
// and Lost add up to Requests.
type tally struct {
	Requests    int      `json:"requests"`
	Connections int      `json:"connections"`   // that were made
	HandedOver  int      `json:"handed_over"`   // answered on a handed-over connection
	Reconnected int      `json:"reconnected"`   // answered on one to the backend's pipe
	Unknown     int      `json:"unknown"`       // client.ErrOutcomeUnknown
	Refused     int      `json:"refused"`       // told that nothing was sent to a backend
	Lost        int      `json:"lost"`          // neither answer nor verdict
	Wrong       int      `json:"wrong"`         // answered, but not with what was asked for
	By          []int    `json:"by,omitempty"`  // process that answered, if it was one alone
	Ran         int      `json:"ran,omitempty"` // requests that a tool's daemon has run by then, as it says
	Faults      []string `json:"faults,omitempty"`
	Trips       []trip   `json:"trips,omitempty"` // of handed-over connections
}

func (t *tally) answered() int { return t.HandedOver + t.Reconnected }

// trip is when one request on a fresh connection passed which step, in Unix µs.
type trip struct {
	Dial     int64 `json:"dial"`
	Ready    int64 `json:"ready"`
	Sent     int64 `json:"sent"`
	Answered int64 `json:"answered"`
}

// RunClient runs the errands that it reads from in until that ends. What became of
// them are lines on out.
func RunClient(ctx context.Context, in io.Reader, out io.Writer) error {
	c := &clientRole{}
	c.session = c.transport(false)
	defer c.session.CloseIdleConnections()
	told, lines := untilEnd(in)
	defer func() { _ = lines.Close() }()
	return world.Converse(lines, out, func(e errands) (event, error) {
		return event{Result: c.run(ctx, told, e)}, ctx.Err()
	})
}

// untilEnd returns a context that ends with in, also while nobody reads, and what in has. The
// goroutine behind it ends with in, or with its next line once lines is closed.
func untilEnd(in io.Reader) (told context.Context, lines *io.PipeReader) {
	told, end := context.WithCancel(context.Background())
	lines, to := io.Pipe()
	go func() {
		_, err := io.Copy(to, in)
		end()
		_ = to.CloseWithError(err)
	}()
	return told, lines
}

// clientRole is one client process of the demo. It does one request at a time.
type clientRole struct {
	session *http.Transport

	mu   sync.Mutex // goroutines of the transport note times too
	made int        // connections, in this errand
	now  trip       // the request under way
}

// note sets a time of the request under way.
func (c *clientRole) note(set func(now *trip, us int64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set(&c.now, time.Now().UnixMicro())
}

func (c *clientRole) transport(noHandoff bool) *http.Transport {
	dial := client.HTTP(client.Options{Service: notes.Service, Version: notes.DefaultVersion, NoHandoff: noHandoff, Eager: true})
	return &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c.note(func(now *trip, us int64) { now.Dial = us })
		conn, err := dial(ctx, network, address)
		if err == nil {
			c.note(func(now *trip, us int64) { now.Ready = us; c.made++ })
		}
		return conn, err
	}}
}

func (c *clientRole) run(ctx, told context.Context, e errands) *tally {
	t := &tally{}
	c.note(func(*trip, int64) { c.made = 0 })
	transport := c.session
	if !e.Session {
		transport = c.transport(e.NoHandoff)
		transport.DisableKeepAlives = true
	}
	for n := range e.Requests {
		if e.UntilTold && told.Err() != nil {
			break
		}
		t.Requests++
		c.note(func(now *trip, _ int64) { *now = trip{} })
		route, by, err := c.request(ctx, transport, fmt.Sprintf("%s-%d", e.Prefix, n))
		t.count(route, by, err)
		if err == nil && route == client.HandedOver && !e.Session && !e.UntilTold {
			c.note(func(now *trip, _ int64) { t.Trips = append(t.Trips, *now) })
		}
	}
	c.note(func(*trip, int64) { t.Connections = c.made })
	return t
}

// request stores one note and checks the answer. The request is sent once: what
// is repeated here are refusals for being too fast, of requests never sent.
func (c *clientRole) request(ctx context.Context, transport http.RoundTripper, id string) (route client.Route, by int, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for {
		route, by, err = c.once(ctx, transport, id)
		var refused *client.RefusedError
		if !errors.As(err, &refused) || refused.Code != client.CodeRateLimited || !wait.For(ctx, refused.RetryAfter) {
			return route, by, err
		}
	}
}

// errWrong says that an answer is not the right one.
var errWrong = errors.New("wrong answer")

func (c *clientRole) once(ctx context.Context, transport http.RoundTripper, id string) (route client.Route, by int, err error) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if conn, ok := info.Conn.(*client.Conn); ok {
				route = conn.Route()
			}
		},
		WroteRequest: func(httptrace.WroteRequestInfo) {
			c.note(func(now *trip, us int64) { now.Sent = us })
		},
		GotFirstResponseByte: func() {
			c.note(func(now *trip, us int64) { now.Answered = us })
		},
	})
	body, err := json.Marshal(notes.Note{Text: "note of " + id})
	if err != nil {
		return route, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://notes/notes", bytes.NewReader(body))
	if err != nil {
		return route, 0, err
	}
	req.Header.Set("X-Request-Id", id)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return route, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body) // to the end, so that a session goes on
	if err != nil {
		return route, 0, err
	}
	var note notes.Note
	if err := json.Unmarshal(answer, &note); err != nil || resp.StatusCode != http.StatusCreated || note.Text != "note of "+id {
		return route, note.By, fmt.Errorf("%w to %s: status %d, %.80q", errWrong, id, resp.StatusCode, answer)
	}
	return route, note.By, nil
}

// keptFaults bounds the errors that a tally quotes.
const keptFaults = 3

// count enters what became of one request.
func (t *tally) count(route client.Route, by int, err error) {
	var refused *client.RefusedError
	switch {
	case err == nil || errors.Is(err, errWrong):
		if route == client.HandedOver {
			t.HandedOver++
		} else {
			t.Reconnected++
		}
		if len(t.By) == 0 || t.By[len(t.By)-1] != by {
			t.By = append(t.By, by)
		}
		if err == nil {
			return
		}
		t.Wrong++
	case errors.Is(err, client.ErrOutcomeUnknown):
		t.Unknown++
	case errors.As(err, &refused), errors.Is(err, client.ErrBrokerUnreachable), errors.Is(err, client.ErrBackendUnreachable),
		errors.Is(err, client.ErrNoAnswer):
		t.Refused++
	default:
		t.Lost++
	}
	if len(t.Faults) < keptFaults {
		t.Faults = append(t.Faults, err.Error())
	}
}
