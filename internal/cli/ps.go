package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// statusInstance is an instance in a STATUS reply.
type statusInstance struct {
	Service     string   `json:"service_name"`
	Version     string   `json:"service_version"`
	Build       string   `json:"build"`
	PID         int      `json:"pid"`
	State       string   `json:"state"`
	Connections *int64   `json:"connections"`
	Relayed     int64    `json:"relayed"`
	SinceMS     int64    `json:"since_unix_ms"`
	IdleSinceMS int64    `json:"idle_since_unix_ms"`
	Busy        bool     `json:"busy"`
	RSS         uint64   `json:"rss_bytes"`
	LastError   string   `json:"last_error"`
	Differs     []string `json:"differs_in"`
}

// statusProcess are the processes of a service that has one for each connection.
type statusProcess struct {
	Service string `json:"service_name"`
	Running int    `json:"running"`
	Waiting int    `json:"waiting"`
	Oldest  []struct {
		Version string `json:"service_version"`
		PID     int    `json:"pid"`
		SinceMS int64  `json:"since_unix_ms"`
		RSS     uint64 `json:"rss_bytes"`
		Ending  bool   `json:"ending"`
	} `json:"oldest"`
}

// statusRelays are the connections that pass through the broker.
type statusRelays struct {
	Open  int    `json:"open"`
	Most  int    `json:"most"`
	Total uint64 `json:"total"`
}

// statusPaused is a paused service in a STATUS reply.
type statusPaused struct {
	Service string `json:"service_name"`
	Version string `json:"service_version"`
	SinceMS int64  `json:"since_unix_ms"`
	Waiting int    `json:"waiting"`
}

func psCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "Show the instances of all services",
		Long: "Show the instances of all services: those that serve, those that are being started, and those that get no more\n" +
			"clients and end after their last connection. Two of one service and version say in what they differ. Where each\n" +
			"connection has a process of its own, the oldest are shown, and how many there are.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply, err := a.ask(cmd.Context(), statusRequest())
			if err != nil {
				return err
			}
			if asJSON {
				var body struct {
					Instances json.RawMessage `json:"instances"`
					Paused    json.RawMessage `json:"paused"`
					Processes json.RawMessage `json:"processes,omitempty"`
					Relays    json.RawMessage `json:"relays,omitempty"`
				}
				if err := json.Unmarshal([]byte(reply.Body), &body); err != nil || body.Instances == nil {
					return errors.Join(errNoInstances, err)
				}
				return printJSON(cmd.OutOrStdout(), body)
			}
			s, err := parseStatus(reply)
			if err != nil {
				return err
			}
			return s.printInstances(cmd.OutOrStdout(), time.Now())
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

var errNoInstances = errors.New("this broker does not tell of instances: it is older, or of another make; see \"usher status\"")

func (s *status) printInstances(out io.Writer, now time.Time) error {
	if s.Instances == nil {
		return errNoInstances
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(s.Instances)+len(s.Processes) == 0 {
		fmt.Fprintln(w, "no instance of any service lives")
	} else {
		fmt.Fprintln(w, "SERVICE\tVERSION\tBUILD\tPID\tSTATE\tCONNECTIONS\tAGE\tIDLE\tMEMORY\tDIFFERS IN\tLAST ERROR")
	}
	since := func(ms int64) string {
		if ms == 0 {
			return "-"
		}
		return seconds(now.Sub(time.UnixMilli(ms)).Seconds())
	}
	for _, i := range s.Instances {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", i.Service, i.Version, cmp.Or(i.Build, "-"), i.PID, i.State,
			i.connections(), since(i.SinceMS), i.idle(since), memory(i.RSS), cmp.Or(strings.Join(i.Differs, ", "), "-"), cmp.Or(i.LastError, "-"))
	}
	for _, p := range s.Processes {
		for _, o := range p.Oldest {
			state := map[bool]string{false: "serving", true: "ending"}[o.Ending]
			fmt.Fprintf(w, "%s\t%s\t-\t%d\t%s\t1\t%s\t-\t%s\t-\t-\n", p.Service, o.Version, o.PID, state, since(o.SinceMS), memory(o.RSS))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, p := range s.Processes {
		if _, err := fmt.Fprintln(out, p.text()); err != nil {
			return err
		}
	}
	for _, p := range s.Paused {
		if _, err := fmt.Fprintln(out, p.text(now)); err != nil {
			return err
		}
	}
	return nil
}

func (i *statusInstance) connections() string {
	switch {
	case i.Connections != nil:
		return fmt.Sprint(*i.Connections)
	case i.Relayed > 0:
		return fmt.Sprintf("%d relayed", i.Relayed)
	}
	return "-"
}

func (p *statusProcess) text() string {
	text := fmt.Sprintf("%s has a process for each connection: %d", p.Service, p.Running)
	if n := len(p.Oldest); n < p.Running {
		text += fmt.Sprintf(", of which the %d oldest are shown", n)
	}
	if p.Waiting > 0 {
		text += fmt.Sprintf("; clients that wait for one to end: %d", p.Waiting)
	}
	return text
}

// idle is for how long it has had no connection, and whether it is at work all the same.
func (i *statusInstance) idle(since func(ms int64) string) string {
	if i.Busy {
		return since(i.IdleSinceMS) + ", busy"
	}
	return since(i.IdleSinceMS)
}

func (p *statusPaused) text(now time.Time) string {
	name := p.Service
	if p.Version != "" {
		name += "@" + p.Version
	}
	return fmt.Sprintf("%s is paused for %s, clients that wait: %d", name, seconds(now.Sub(time.UnixMilli(p.SinceMS)).Seconds()), p.Waiting)
}

// memory shows bytes as MiB.
func memory(bytes uint64) string {
	if bytes == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
}
