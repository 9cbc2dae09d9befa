package admin

import (
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/usage"
)

// notCounted is the detail that v1 gives for a file system without inodes.
const notCounted = "inode accounting not applicable on this filesystem"

// status is spec 04 §4.1, with instances, paused services, handoffs by outcome, clients by fate, and the mode
// that the system allows.
func (s *Snapshot) status() object {
	backends := []object{}
	for _, b := range s.rows() {
		backends = append(backends, object{
			"service_name":        b.Service,
			"service_version":     b.Version,
			"pid":                 b.PID,
			"backend_pipe":        b.Pipe,
			"last_active_unix_ms": b.LastActiveMS,
			"state":               b.state(),
			"other_build":         b.OtherBuild,
			"silent":              b.Silent,
		})
	}
	return object{
		"broker_instance":  s.Instance,
		"broker_pid":       s.PID,
		"uptime_seconds":   fraction(s.Uptime.Seconds()),
		"accepting_hello":  s.Accepting,
		"connections_open": s.ConnectionsOpen,
		"fd_pressure":      object{"demoted": s.FDDemoted},
		"inode_pressure":   inodes(s.Inodes),
		"backends":         backends,
		"instances":        s.instanceRows(),
		"paused":           s.pausedRows(),
		"processes":        s.processRows(),
		"relays":           s.Relays.body(),
		"log_dir":          s.LogDir,
		"handoffs":         s.Handoffs.body(),
		"clients":          s.Clients.body(),
		"system":           s.System.body(),
	}
}

func (s System) body() object {
	body := object{"processes": s.Processes, "claims": s.Claims}
	if len(s.Without) > 0 {
		body["without"] = s.Without
	}
	return body
}

func (h Handoffs) body() object {
	fallbacks := []object{}
	for _, f := range h.Fallbacks {
		fallbacks = append(fallbacks, object{"stage": f.Stage, "reason": f.Reason, "count": f.Count})
	}
	return object{
		"adopted":          h.Adopted,
		"not_taken":        h.NotTaken,
		"unknown":          h.Unknown,
		"late_ack":         h.LateAck,
		"retried":          h.Retried,
		"stray_ack":        h.StrayAck,
		"unknown_messages": h.UnknownMessages,
		"proven_unread":    h.ProvenUnread,
		"fallbacks":        fallbacks,
	}
}

func (c Clients) body() object {
	refused := object{}
	for code, n := range c.Refused {
		refused[code] = n
	}
	return object{
		"reconnected":     c.Reconnected,
		"waited":          c.Waited,
		"gone":            c.Gone,
		"foreign":         c.Foreign,
		"accept_failures": c.AcceptFailures,
		"refused":         refused,
	}
}

func inodes(i usage.Inodes) object {
	switch {
	case i.Problem != "":
		return object{"supported": false, "detail": i.Problem}
	case i.Total == 0:
		return object{"supported": false, "detail": notCounted}
	}
	used := i.Total - min(i.Free, i.Total)
	return object{
		"supported":    true,
		"inodes_total": i.Total,
		"inodes_free":  i.Free,
		"inodes_used":  used,
		"used_ratio":   fraction(float64(used) / float64(i.Total)),
	}
}

// instances is spec 04 §4.3 with the real socket path.
func (s *Snapshot) instances() object {
	state := "not-serving"
	if s.Accepting {
		state = "running"
	}
	return object{"instances": []object{{
		"broker_instance": s.Instance,
		"pipe":            s.SocketPath,
		"pid":             s.PID,
		"state":           state,
	}}}
}

// backendHealth is spec 04 §4.4 for one service.
func (s *Snapshot) backendHealth(service string) object {
	if service == "" {
		service = "unknown"
	}
	backends := []object{}
	for _, b := range s.rows() {
		if b.Service != service {
			continue
		}
		var lastError any
		if b.LastError != "" {
			lastError = b.LastError
		}
		backends = append(backends, object{
			"service_version":    b.Version,
			"pid":                b.PID,
			"state":              b.state(),
			"last_hello_unix_ms": b.LastHelloMS,
			"last_error":         lastError,
		})
	}
	return object{"service_name": service, "backends": backends}
}

// config is the `values` of spec 04 §4.5. This broker starts no backends, so the
// spawn budget has v1's defaults and no rows.
func (s *Snapshot) config() object {
	leaf := func(source string, value any) object { return object{"source": source, "value": value} }
	runtime := func(value any) object { return leaf("runtime", value) }
	protocol := func(value any) object { return leaf("protocol-v1", value) }
	return object{
		"broker": object{
			"broker_instance": runtime(s.Instance),
			"broker_pid":      runtime(s.PID),
			"accepting_hello": runtime(s.Accepting),
		},
		"protocol": object{
			"admin_payload_protocol": protocol("0xAD01"),
			"envelope_version":       protocol(1),
			"framing_version":        protocol(frame.Version),
		},
		"limits": object{
			"max_frame_bytes":  protocol(frame.MaxBody),
			"max_hello_bytes":  protocol(frame.MaxHelloBody),
			"connections_open": runtime(s.ConnectionsOpen),
		},
		"paths": object{
			"service_definition_dir": leaf(s.ServiceDefDirSource, s.ServiceDefDir),
		},
		"spawn_budget": object{
			"default_attempts_per_window": leaf("default", 3),
			"default_window_ms":           leaf("default", 30000),
			"active_budget_rows":          runtime(0),
		},
		"diagnostics": object{
			"bundle_format": leaf("schema-v1", "tar.gz"),
			"bundle_mode":   leaf("schema-v1", "metadata-only"),
			"redactions":    leaf("schema-v1", redactions),
		},
	}
}
