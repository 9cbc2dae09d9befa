package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/wire"
)

// status is the body of a STATUS reply (spec 04 §4.1) as far as it is shown.
type status struct {
	Instance        string  `json:"broker_instance"`
	PID             int     `json:"broker_pid"`
	UptimeSeconds   float64 `json:"uptime_seconds"`
	Accepting       bool    `json:"accepting_hello"`
	ConnectionsOpen int     `json:"connections_open"`
	FDPressure      struct {
		Demoted bool `json:"demoted"`
	} `json:"fd_pressure"`
	Handoffs *handoffCounts  `json:"handoffs"` // nil from a v1 broker
	Clients  *clientCounts   `json:"clients"`  // likewise
	System   *systemMeans    `json:"system"`   // likewise
	Backends []statusBackend `json:"backends"`

	Instances []statusInstance `json:"instances"` // nil from a broker that does not tell
	Paused    []statusPaused   `json:"paused"`
	Processes []statusProcess  `json:"processes"`
	Relays    *statusRelays    `json:"relays"` // nil from a broker that does not tell
	LogDir    string           `json:"log_dir"`
}

type systemMeans struct {
	Processes string `json:"processes"`
	Claims    string `json:"claims"`

	Without []string `json:"without"`
}

type handoffCounts struct {
	Adopted  uint64 `json:"adopted"`
	NotTaken uint64 `json:"not_taken"`
	Unknown  uint64 `json:"unknown"`
	LateAck  uint64 `json:"late_ack"`
	Retried  uint64 `json:"retried"`
	Proven   uint64 `json:"proven_unread"`

	Fallbacks []struct {
		Stage  string `json:"stage"`
		Reason string `json:"reason"`
		Count  uint64 `json:"count"`
	} `json:"fallbacks"`
}

type clientCounts struct {
	Reconnected uint64            `json:"reconnected"`
	Waited      uint64            `json:"waited"`
	Gone        uint64            `json:"gone"`
	Refused     map[string]uint64 `json:"refused"` // by code
}

func (c *clientCounts) refused() (n uint64) {
	for _, count := range c.Refused {
		n += count
	}
	return n
}

type statusBackend struct {
	Service      string `json:"service_name"`
	Version      string `json:"service_version"`
	PID          int    `json:"pid"`
	Pipe         string `json:"backend_pipe"`
	State        string `json:"state"`
	LastActiveMS int64  `json:"last_active_unix_ms"`
	OtherBuild   bool   `json:"other_build"`
	Silent       bool   `json:"silent"`
}

// state is for people: what keeps clients from a backend that runs is said.
func (b *statusBackend) state() string {
	switch {
	case b.OtherBuild:
		return b.State + ", other build"
	case b.Silent:
		return b.State + ", silent"
	}
	return b.State
}

func statusCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the live broker, its handoffs and its backends",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return a.relay(cmd, statusRequest())
			}
			s, err := a.status(cmd.Context())
			if err != nil {
				return err
			}
			socket, err := a.socketPath()
			if err != nil {
				return err
			}
			return s.print(cmd.OutOrStdout(), socket, time.Now())
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func addJSON(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print JSON")
}

func statusRequest() *wire.AdminRequest {
	return &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_STATUS, Json: true}
}

// status asks the live broker how it is.
func (a *app) status(ctx context.Context) (*status, error) {
	reply, err := a.ask(ctx, statusRequest())
	if err != nil {
		return nil, err
	}
	return parseStatus(reply)
}

func parseStatus(reply *wire.AdminReply) (*status, error) {
	if code := reply.ExitCode; code != 0 {
		return nil, fmt.Errorf("the broker refused the status request (exit code %d): %s", code, reply.Body)
	}
	s := new(status)
	if err := json.Unmarshal([]byte(reply.Body), s); err != nil {
		return nil, fmt.Errorf("the broker's status is not readable: %w", err)
	}
	return s, nil
}

func (s *status) print(out io.Writer, socket string, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "broker\t%s, pid %d, up %s\n", s.Instance, s.PID, seconds(s.UptimeSeconds))
	fmt.Fprintf(w, "socket\t%s\n", socket)
	fmt.Fprintf(w, "accepting\t%s\n", s.accepting())
	fmt.Fprintf(w, "connections\t%d without a verdict, this one included\n", s.ConnectionsOpen)
	if h := s.Handoffs; h != nil {
		fmt.Fprintf(w, "handoffs\tadopted %d, not taken %d, unknown %d, late ack %d, retried %d, proven unread %d\n",
			h.Adopted, h.NotTaken, h.Unknown, h.LateAck, h.Retried, h.Proven)
		for _, f := range h.Fallbacks {
			fmt.Fprintf(w, "\t%d fell back at %s: %s\n", f.Count, f.Stage, f.Reason)
		}
	}
	if c := s.Clients; c != nil {
		fmt.Fprintf(w, "clients\treconnected %d, waited for a backend %d, refused %d, gone %d\n", c.Reconnected, c.Waited, c.refused(), c.Gone)
	}
	if r := s.Relays; r != nil && r.Total > 0 {
		fmt.Fprintf(w, "relayed\t%d of at most %d connections, %d in all\n", r.Open, r.Most, r.Total)
	}
	for _, p := range s.Processes {
		fmt.Fprintf(w, "processes\t%s has one for each connection: %d, clients that wait for one to end: %d\n", p.Service, p.Running, p.Waiting)
	}
	if m := s.System; m != nil {
		fmt.Fprintf(w, "system\tprocesses by %s, claims by %s\n", m.Processes, m.Claims)
		for _, what := range m.Without {
			fmt.Fprintf(w, "\twithout %s\n", what)
		}
	}
	for _, p := range s.Paused {
		fmt.Fprintf(w, "paused\t%s\n", p.text(now))
	}
	if len(s.Backends) == 0 {
		fmt.Fprintf(w, "backends\t%s\n", s.noBackends())
		return w.Flush()
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nSERVICE\tVERSION\tPID\tSTATE\tACTIVE\tPIPE")
	for _, b := range s.Backends {
		active := now.Sub(time.UnixMilli(b.LastActiveMS))
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s ago\t%s\n", b.Service, b.Version, b.PID, b.state(), seconds(active.Seconds()), b.Pipe)
	}
	return w.Flush()
}

// noBackends says what to do about it. A v1 broker takes no registrations.
func (s *status) noBackends() string {
	if s.Handoffs == nil {
		return "none: this is a v1 broker, where none register; it starts them, or was told of one when it was started"
	}
	return "none: they register by themselves when they start"
}

func (s *status) accepting() string {
	switch {
	case s.Accepting:
		return "yes"
	case s.FDPressure.Demoted:
		return "no: short of file descriptors"
	}
	return "no: draining"
}

// seconds shows a number of seconds without fractions.
func seconds(n float64) string {
	return (time.Duration(max(n, 0)) * time.Second).String()
}
