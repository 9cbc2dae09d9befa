package admin

import (
	"fmt"
	"strings"

	"github.com/seed-7265657e/usher/internal/wire"
)

// metricPrefix begins the name of every metric of spec 04 §5.
const metricPrefix = "running_process_broker_v1_"

// metrics is spec 04 §5: names, types and their order are the protocol's. Metrics
// about starting backends have no samples: this broker starts none.
func (s *Snapshot) metrics() *wire.AdminReply {
	var body strings.Builder
	for _, m := range []struct {
		name, kind string
		samples    []string // what follows the name
	}{
		{"hello_total", "counter", nil},
		{"hello_duration_seconds", "histogram", nil},
		{"active_backends", "gauge", s.activeBackends()},
		{"spawn_attempts_total", "counter", nil},
		{"spawn_budget_remaining", "gauge", nil},
		{"connections_open", "gauge", []string{fmt.Sprintf(" %d", s.ConnectionsOpen)}},
		{"fd_usage_ratio", "gauge", []string{fmt.Sprintf(" %g", s.FDUsage)}},
		{"uptime_seconds", "gauge", []string{fmt.Sprintf(" %d", int64(s.Uptime.Seconds()))}},
	} {
		fmt.Fprintf(&body, "# TYPE %s%s %s\n", metricPrefix, m.name, m.kind)
		for _, sample := range m.samples {
			fmt.Fprintf(&body, "%s%s%s\n", metricPrefix, m.name, sample)
		}
	}
	body.WriteString("# EOF\n")
	return &wire.AdminReply{
		Kind:        wire.AdminReplyKind_ADMIN_REPLY_KIND_OPENMETRICS,
		Body:        body.String(),
		ExitCode:    exitDone,
		ContentType: "application/openmetrics-text",
	}
}

// activeBackends counts the living backends of each service, by name. A name holds
// nothing that would have to be escaped.
func (s *Snapshot) activeBackends() (samples []string) {
	rows := s.rows()
	for i := 0; i < len(rows); {
		service, alive := rows[i].Service, 0
		for ; i < len(rows) && rows[i].Service == service; i++ {
			if !rows[i].Stale {
				alive++
			}
		}
		samples = append(samples, fmt.Sprintf("{service=%q} %d", service, alive))
	}
	return samples
}
