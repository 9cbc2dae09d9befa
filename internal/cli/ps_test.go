//go:build unix

package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestPs: each kind of row, as text and as JSON.
func TestPs(t *testing.T) {
	p := newPlace(t)
	p.startFake(t, reply(&wire.AdminReply{Kind: wire.AdminReplyKind_ADMIN_REPLY_KIND_JSON, Body: `{"instances":[` +
		`{"service_name":"mytool","service_version":"1.0.0","build":"0123abcd","pid":7,"state":"ready","connections":2,"since_unix_ms":1,"rss_bytes":1572864,"differs_in":["GOVERSION","key"]},` +
		`{"service_name":"mytool","service_version":"1.0.0","pid":8,"state":"draining","connections":3,"since_unix_ms":1,"differs_in":[],"last_error":"no answer"},` +
		`{"service_name":"busy","service_version":"1.0.0","pid":9,"state":"ready","connections":0,"since_unix_ms":1,"idle_since_unix_ms":1,"busy":true},` +
		`{"service_name":"old","service_version":"1.0.0","pid":0,"state":"starting","connections":null},` +
		`{"service_name":"redis","service_version":"1.0.0","pid":9,"state":"ready","connections":null,"relayed":5}],` +
		`"processes":[{"service_name":"files","running":40,"waiting":3,"oldest":[{"service_version":"2.0.0","pid":10,"since_unix_ms":1,"rss_bytes":1572864}]}],"relays":{"open":5,"most":9,"total":7},` +
		`"paused":[{"service_name":"old","service_version":"1.0.0","since_unix_ms":1,"waiting":4}]}`}))
	r := run(t, "ps")
	r.want(t, 0, "old@1.0.0 is paused for", "")
	for _, text := range []string{"0123abcd  7    ready     2 ", "1.5 MiB  GOVERSION, key  -", "draining  3", "no answer", ", busy  -", "starting  -            -", "ready     5 relayed", "files    2.0.0    -         10   serving   1 ",
		"files has a process for each connection: 40, of which the 1 oldest are shown; clients that wait for one to end: 3"} {
		if !strings.Contains(r.stdout, text) {
			t.Errorf("%q is missing in\n%s", text, r.stdout)
		}
	}
	var body struct {
		Instances, Paused, Processes []map[string]any
		Relays                       map[string]any
	}
	if err := json.Unmarshal([]byte(run(t, "ps", "--json").stdout), &body); err != nil || len(body.Instances) != 5 || len(body.Paused) != 1 || len(body.Processes) != 1 || body.Relays == nil {
		t.Errorf("%v, %v", body, err)
	}
}

// TestPsOfAnOlderBroker: it does not tell of instances.
func TestPsOfAnOlderBroker(t *testing.T) {
	p := newPlace(t)
	p.startFake(t, reply(&wire.AdminReply{Body: `{"backends":[]}`}))
	for _, args := range [][]string{{"ps"}, {"ps", "--json"}, {"logs", "notes"}} {
		run(t, args...).want(t, exitFailed, "", "does not tell of instances")
	}
}

// TestServiceVerbs: what is asked of the broker, and that its answer is shown as it is.
func TestServiceVerbs(t *testing.T) {
	p := newPlace(t)
	asked := make(chan *wire.AdminRequest, 1)
	p.startFake(t, func(f *wire.Frame) *wire.Frame {
		req := new(wire.AdminRequest)
		if err := frame.Unmarshal(f.Payload, req); err != nil {
			t.Error(err)
		}
		asked <- req
		return frame.Response(f, wire.Marshal(&wire.AdminReply{Body: "told\n", ExitCode: 1}))
	})
	for verb, args := range map[wire.AdminVerb][]string{
		wire.AdminVerb_ADMIN_VERB_SERVICE_RESTART: {"restart", "notes@1.2.0", "--deadline", "40s"},
		wire.AdminVerb_ADMIN_VERB_SERVICE_STOP:    {"stop", "notes@1.2.0", "--json", "--deadline", "40s"},
		wire.AdminVerb_ADMIN_VERB_SERVICE_PAUSE:   {"pause", "notes@1.2.0"},
		wire.AdminVerb_ADMIN_VERB_SERVICE_RESUME:  {"resume", "notes@1.2.0"},
	} {
		run(t, append([]string{"service"}, args...)...).want(t, 1, "told\n", "")
		req := <-asked
		waits := args[0] == "restart" || args[0] == "stop"
		if req.Verb != verb || req.ServiceName != "notes" || req.ServiceVersion != "1.2.0" || req.Json != (args[0] == "stop") || (req.DrainDeadlineMs == 40_000) != waits {
			t.Errorf("%v asks %+v", args, req)
		}
	}
	for _, args := range [][]string{{"restart"}, {"stop", "notes@"}, {"pause", "No"}, {"resume", "notes@1.2.0", "x"}} {
		run(t, append([]string{"service"}, args...)...).want(t, exitUsage, "", "Run 'usher service "+args[0]+" --help'")
	}
}
