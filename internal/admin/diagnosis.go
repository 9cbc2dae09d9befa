package admin

// defaultBundle is the name of the archive when the request gives none.
const defaultBundle = "bundle.tar.gz"

// redactions name what is taken out of a bundle.
var redactions = []string{"home", "secret-env", "acl-identities"}

// dump is spec 04 §4.2. This broker starts no backends and keeps no lifecycle
// events, so both lists are empty.
func (s *Snapshot) dump() object {
	table := []object{}
	for _, b := range s.rows() {
		table = append(table, object{
			"service_name":    b.Service,
			"service_version": b.Version,
			"pid":             b.PID,
			"backend_pipe":    b.Pipe,
			"state":           b.state(),
		})
	}
	return object{
		"broker_instance":         s.Instance,
		"effective_config":        s.config(),
		"backend_table":           table,
		"spawn_budgets":           []object{},
		"recent_lifecycle_events": []object{},
	}
}

// bundleEntry is one file of a diagnostic bundle.
type bundleEntry struct {
	path, kind, source string
	required, redacted bool
}

// bundle lists the files in the order of spec 04 §4.6.
var bundle = []bundleEntry{
	{"admin/status.json", "json", "status", true, false},
	{"admin/dump.json", "json", "dump", true, true},
	{"config/effective.json", "json", "effective-config", true, false},
	{"metrics/openmetrics.txt", "openmetrics", "metrics", true, false},
	{"events/lifecycle.jsonl", "jsonl", "lifecycle-events", false, true},
	{"manifest/backend-manifests.json", "json", "backend-manifest-index", false, true},
	{"process/backends.json", "json", "backend-table", true, true},
	{"system/summary.json", "json", "host-summary", false, true},
}

// diagnose is spec 04 §4.6: what a bundle would hold. None is written.
func (s *Snapshot) diagnose(output string) object {
	if output == "" {
		output = defaultBundle
	}
	entries, files := []object{}, []string{}
	for _, e := range bundle {
		entry := object{"path": e.path, "kind": e.kind, "source": e.source, "required": e.required, "redacted": e.redacted}
		if e.source == "backend-table" {
			entry["record_count"] = len(s.Backends)
		}
		entries, files = append(entries, entry), append(files, e.path)
	}
	return object{
		"output":     output,
		"bundle":     object{"format": "tar.gz", "mode": "metadata-only", "created": false, "entries": entries},
		"files":      files,
		"redactions": redactions,
		"redaction_policy": []object{
			{"name": "home", "replacement": "~"},
			{"name": "secret-env", "matches": []string{"KEY", "TOKEN", "SECRET", "PASS"}},
			{"name": "acl-identities", "replacement": "stable-hash"},
		},
	}
}
