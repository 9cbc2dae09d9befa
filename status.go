package usher

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seed-7265657e/usher/internal/adminclient"
	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/wire"
)

// Status is what runs of a tool.
type Status struct {
	// Broker is the process id of the tool's broker; 0 where none runs, and then no daemon
	// is known.
	Broker int
	// Daemons are those of every build, Key, Dir and EnvKey, by version and age.
	Daemons []Daemon
}

// Daemon is a daemon of a tool.
type Daemon struct {
	PID     int // 0: the system has not started it yet
	Version string
	// Build names the content of Executable: two daemons of one build have the same.
	Build, Executable string
	Key, Dir          string
	// State is "starting", "ready" or "draining": it gets no calls any more, and ends after
	// its last connection.
	State string
	// DiffersIn says why there are two: "build", "key", "dir", "timeouts", and the names of
	// variables of EnvKey in which daemons of its version differ.
	DiffersIn []string
	// Connections are those that it serves, as it told a moment ago; −1 where it does not
	// tell.
	Connections int
	// Since is when it was started, and IdleSince since when it has had no connection; zero
	// while it has.
	Since, IdleSince time.Time
	Busy             bool   // it has none, and said by Tool.Busy that it is at work
	Memory           uint64 // resident, in bytes; 0 where that can't be told
	LastError        string // why the last call could not be handed to it; empty for none
	Log              string // the path of its log; empty where an earlier broker started it
}

// Status says what runs of the tool, and starts nothing. Where no broker runs it is empty,
// with no error. ctx bounds it, 30 s when it has no deadline.
func (t *Tool) Status(ctx context.Context) (Status, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	var body struct {
		Broker    int `json:"broker_pid"`
		Instances []struct {
			PID         int      `json:"pid"`
			Version     string   `json:"service_version"`
			Build       string   `json:"build"`
			Executable  string   `json:"executable"`
			Key         string   `json:"key"`
			Dir         string   `json:"dir"`
			State       string   `json:"state"`
			Differs     []string `json:"differs_in"`
			Connections *int     `json:"connections"`
			Since       int64    `json:"since_unix_ms"`
			IdleSince   int64    `json:"idle_since_unix_ms"`
			Busy        bool     `json:"busy"`
			Memory      uint64   `json:"rss_bytes"`
			LastError   string   `json:"last_error"`
			Log         string   `json:"log"`
		} `json:"instances"`
	}
	err := t.ask(ctx, &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_STATUS}, &body)
	switch {
	case noBroker(err):
		return Status{}, nil
	case err != nil:
		return Status{}, err
	}
	s := Status{Broker: body.Broker}
	for _, i := range body.Instances {
		d := Daemon{
			PID: i.PID, Version: i.Version, Build: i.Build, Executable: i.Executable, Key: i.Key, Dir: i.Dir,
			State: i.State, DiffersIn: i.Differs, Connections: -1, Since: time.UnixMilli(i.Since),
			Busy: i.Busy, Memory: i.Memory, LastError: i.LastError, Log: i.Log,
		}
		if i.Connections != nil {
			d.Connections = *i.Connections
		}
		if i.IdleSince != 0 {
			d.IdleSince = time.UnixMilli(i.IdleSince)
		}
		s.Daemons = append(s.Daemons, d)
	}
	return s, nil
}

// Stop ends the tool's daemons, those of every build, and then its broker, and starts
// nothing. Daemons end after their last connection. Whoever calls the tool meanwhile waits,
// and is served by a new broker.
//
// It returns nil when all have ended, or nothing ran. A daemon that still serves when ctx
// ends, 30 s from now when it has no deadline, is an error that says so; it lives on until
// its last connection ends, and the broker ends all the same.
func (t *Tool) Stop(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := t.control(ctx, wire.AdminVerb_ADMIN_VERB_SERVICE_PAUSE); err != nil { // else a call would start a daemon again
		return goneIsWell(err)
	}
	resume := func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), brokerEnd)
		defer cancel()
		return goneIsWell(t.control(ctx, wire.AdminVerb_ADMIN_VERB_SERVICE_RESUME))
	}
	running, err := t.Status(ctx) // behind the pause, in which no other broker takes its place
	switch {
	case err != nil:
		return errors.Join(err, resume())
	case running.Broker == 0:
		return nil
	}
	broker, err := peer.OpenPID(running.Broker)
	switch {
	case errors.Is(err, os.ErrProcessDone), errors.Is(err, errno.ESRCH):
		return nil
	case err != nil:
		return errors.Join(err, resume())
	}
	defer broker.Close()
	stopErr := t.control(ctx, wire.AdminVerb_ADMIN_VERB_SERVICE_STOP)

	// The daemons may have used up ctx.
	rest, cancelRest := context.WithTimeout(context.WithoutCancel(ctx), brokerEnd)
	defer cancelRest()
	if err := t.ask(rest, &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_SHUTDOWN}, nil); err != nil && !noBroker(err) {
		return errors.Join(stopErr, err, resume())
	}
	if err := broker.Wait(rest); err != nil {
		stopErr = errors.Join(stopErr, fmt.Errorf("broker %d of %s has not ended: %w", running.Broker, t.Name, err))
	}
	return stopErr
}

const (
	// askTime bounds what a caller does not bound.
	askTime = 30 * time.Second
	// brokerEnd is how long the broker may take to end once its daemons have.
	brokerEnd = 15 * time.Second
)

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, set := ctx.Deadline(); set {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, askTime)
}

// control asks the broker for a service verb. What could not be done is an error.
func (t *Tool) control(ctx context.Context, verb wire.AdminVerb) error {
	request := &wire.AdminRequest{Verb: verb, ServiceName: t.Name}
	if deadline, ok := ctx.Deadline(); ok { // with a tenth left for the answer
		request.DrainDeadlineMs = uint64(max(time.Until(deadline)*9/10, time.Millisecond).Milliseconds())
	}
	var body struct {
		Done      bool
		Instances []struct {
			PID          int
			Result, Text string
		}
		Text []string
	}
	if err := t.ask(ctx, request, &body); err != nil || body.Done {
		return err
	}
	why := body.Text
	for _, i := range body.Instances {
		if i.Result != "ended" {
			why = append(why, fmt.Sprintf("daemon %d %s", i.PID, i.Text))
		}
	}
	return fmt.Errorf("%s: %s", t.Name, strings.Join(why, "; "))
}

// ask sends the tool's broker an admin request, whose answer is JSON where there is a body
// to read it into.
func (t *Tool) ask(ctx context.Context, request *wire.AdminRequest, body any) error {
	tool, err := t.complete()
	if err != nil {
		return err
	}
	socket, err := tool.socket()
	if err != nil {
		return err
	}
	request.Json = body != nil
	reply, err := adminclient.Ask(ctx, socket, request)
	if err != nil || body == nil {
		return err
	}
	if reply.Kind != wire.AdminReplyKind_ADMIN_REPLY_KIND_JSON {
		return fmt.Errorf("the broker of %s is of an older build: %s", t.Name, strings.TrimSpace(reply.Body))
	}
	return json.Unmarshal([]byte(reply.Body), body)
}

// noBroker reports whether err says that no broker runs.
func noBroker(err error) bool {
	var dial *adminclient.DialError
	return errors.As(err, &dial) && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, errno.ECONNREFUSED))
}

// goneIsWell is nil for what says that no broker runs any more.
func goneIsWell(err error) error {
	if noBroker(err) {
		return nil
	}
	return err
}

// Logs returns the paths of the logs that there are: first the broker's, then those of
// daemons, the one that was written to last first. Each is bounded; what had no room lies
// beside it, under the same name with ".1". It starts nothing, and needs no broker.
func (t *Tool) Logs() ([]string, error) {
	state, err := t.stateDir()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(state)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	type log struct {
		path    string
		written time.Time
	}
	var paths []string
	var daemons []log
	for _, e := range entries {
		path := filepath.Join(state, e.Name())
		fi, err := e.Info()
		switch {
		case err != nil || !strings.HasSuffix(path, ".log"):
		case path == brokerLog(state):
			paths = []string{path}
		default:
			daemons = append(daemons, log{path, fi.ModTime()})
		}
	}
	slices.SortStableFunc(daemons, func(a, b log) int { return cmp.Or(b.written.Compare(a.written), cmp.Compare(a.path, b.path)) })
	for _, d := range daemons {
		paths = append(paths, d.path)
	}
	return paths, nil
}
