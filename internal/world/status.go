package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-7265657e/usher/internal/adminclient"
	"github.com/seed-7265657e/usher/internal/wire"
)

// Status is what a broker says about itself, as far as it matters here.
type Status struct {
	BrokerPID int       `json:"broker_pid"`
	Open      int       `json:"connections_open"` // this one included
	Backends  []Backend `json:"backends"`
	// Instances are those, and what is being started or drains.
	Instances []Instance `json:"instances"`
	Clients   struct {
		Reconnected int            `json:"reconnected"`
		Waited      int            `json:"waited"`
		Refused     map[string]int `json:"refused"` // by error code
	} `json:"clients"`
	Handoffs struct {
		NotTaken     int `json:"not_taken"`
		Unknown      int `json:"unknown"`
		Retried      int `json:"retried"`
		StrayAck     int `json:"stray_ack"`
		ProvenUnread int `json:"proven_unread"`
	} `json:"handoffs"`
}

// Backend is a backend that is registered.
type Backend struct {
	PID int `json:"pid"`
}

// Instance is a backend's process.
type Instance struct {
	PID         int `json:"pid"`
	Connections int `json:"connections"` // 0 too where it does not tell
}

const statusTimeout = 10 * time.Second

// AskStatus asks the broker at socket.
func AskStatus(ctx context.Context, socket string) (*Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	reply, err := adminclient.Ask(ctx, socket, &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_STATUS, Json: true})
	if err != nil {
		return nil, err
	}
	s := new(Status)
	if err := json.Unmarshal([]byte(reply.Body), s); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	return s, nil
}

// Serving waits until the process answers as the World's broker.
func (w *World) Serving(ctx context.Context, broker *Process) error {
	return Until(ctx, broker.Name+" serves", func() (bool, error) {
		s, err := AskStatus(ctx, w.Socket()) // fails until somebody serves
		return err == nil && s.BrokerPID == broker.PID(), broker.stillRuns()
	})
}

// Shutdown has the World's broker end, as `usher shutdown` does. The error says that it did
// not, or not well.
func (w *World) Shutdown(ctx context.Context, broker *Process) error {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	_, err := adminclient.Ask(ctx, w.Socket(), &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_SHUTDOWN})
	if err != nil {
		broker.Kill()
		return fmt.Errorf("end %s: %w", broker.Name, err)
	}
	return broker.quit()
}

// Registered waits until the World's broker knows these backends, each with its
// channel in its hand: a registration's connection ends after that.
func (w *World) Registered(ctx context.Context, backends ...*Process) error {
	return Until(ctx, "registered with the broker", func() (bool, error) {
		s, err := AskStatus(ctx, w.Socket())
		if err != nil {
			return false, err
		}
		known := s.Open == 1 // the one that asks
		for _, p := range backends {
			known = known && slices.Contains(s.Backends, Backend{p.PID()})
			err = errors.Join(err, p.stillRuns())
		}
		return known, err
	})
}
