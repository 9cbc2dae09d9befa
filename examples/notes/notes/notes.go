// Package notes is a small HTTP service behind usher: it stores notes in memory
// and counts which request it ran how often, so that a test, or usher's demo,
// can prove that none ran twice.
//
//	POST /notes              {"text": …}; the note, stored
//	GET  /notes              every note
//	GET  /debug/executions   the Report
//
// It is an example: everything it needs of usher is backend.Listen, in run.go.
// It owns no descriptors but its listener's and its server's.
package notes

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"sync"
)

// maxNote bounds the body of a POST, in bytes.
const maxNote = 64 << 10

// Note is one stored note.
type Note struct {
	ID   int    `json:"id"` // counts from 1
	Text string `json:"text"`
	By   int    `json:"by"` // process that stored it
}

// App is the service without its server. It is an http.Handler, safe for
// concurrent use; use New.
type App struct {
	// OnExecute, when set, is called for every POST after it has run and been
	// counted, before it is answered. id is empty when the request had none. It
	// is set before the first request.
	OnExecute func(id string)

	http.Handler

	mu                  sync.Mutex // guards everything below
	notes               []Note
	executions          map[string]int // by request id
	handedOver, dialled int            // connections
}

// New makes an App without notes.
func New() *App {
	a := &App{executions: make(map[string]int)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /notes", a.add)
	mux.HandleFunc("GET /notes", a.list)
	mux.HandleFunc("GET /debug/executions", a.debug)
	a.Handler = mux
	return a
}

func (a *App) add(w http.ResponseWriter, r *http.Request) {
	var sent struct {
		Text string `json:"text"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxNote)).Decode(&sent); err != nil {
		http.Error(w, "want {\"text\": …}: "+err.Error(), http.StatusBadRequest)
		return
	}
	id := requestID(r)
	note := a.store(id, sent.Text)
	if a.OnExecute != nil {
		a.OnExecute(id)
	}
	answer(w, http.StatusCreated, note)
}

// store is what must happen once per request.
func (a *App) store(id, text string) Note {
	a.mu.Lock()
	defer a.mu.Unlock()
	note := Note{ID: len(a.notes) + 1, Text: text, By: os.Getpid()}
	a.notes = append(a.notes, note)
	if id != "" {
		a.executions[id]++
	}
	return note
}

func (a *App) list(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	notes := slices.Clone(a.notes)
	a.mu.Unlock()
	answer(w, http.StatusOK, append([]Note{}, notes...)) // [] rather than null
}

func (a *App) debug(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, a.Report())
}

// requestID is how the client names its request. Neither header makes net/http
// replay a request, as Idempotency-Key would.
func requestID(r *http.Request) string {
	if id := r.Header.Get("Idempotency-Id"); id != "" {
		return id
	}
	return r.Header.Get("X-Request-Id")
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails when the client has gone
}
