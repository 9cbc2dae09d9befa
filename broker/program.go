package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/filehash"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/logfile"
	"github.com/seed-7265657e/usher/internal/registry"
	"github.com/seed-7265657e/usher/internal/sock"
)

// program is what an instance is started from. Whoever has it closes it.
type program struct {
	path  string
	name  string   // what it is called where that is not path: a link may be what a program of many names goes by
	image image    // the file, of a client's own build
	file  *os.File // of a client's own build; nil: path is opened when it is started
	build [32]byte // what AllowsExecutable is asked with; unknown where path is opened
	// preferred is tried before path, below root: the build of one version.
	preferred, root string
	named           string // the path that AllowsExecutable is asked with, once it is open
	script          bool   // it names the program that is to read it; known once it is open

	args, env []string
	dir       string
	timeout   time.Duration // until it is ready; 0: defaultStartTimeout
}

const defaultStartTimeout = 10 * time.Second

func (p *program) close() {
	if p != nil && p.file != nil {
		_ = p.file.Close()
	}
}

func (p *program) startTimeout() time.Duration {
	if p.timeout > 0 {
		return p.timeout
	}
	return defaultStartTimeout
}

// takeProgram is what an instance of t is started from; the caller owns it.
func (d *definition) takeProgram(t *target) *program {
	if p := d.program; p != nil {
		d.program = nil
		return p
	}
	return definedProgram(t)
}

// definedProgram is what the definition of t names; the caller owns it.
func definedProgram(t *target) *program {
	s, start := t.definition, t.start
	p := &program{path: s.BinaryPath, args: start.Args, timeout: start.Timeout, env: append(v1Environment(t), start.Env...)}
	if root := s.PerVersionBinaryDir; root != "" {
		p.preferred, p.root = filepath.Join(root, t.key.Version, t.key.Service), root
	}
	if start.Idle > 0 {
		p.env = append(p.env, endpoint.IdleVariable+"="+start.Idle.String())
	}
	return p
}

// v1Environment is what a v1 broker tells an instance, but for the socket that it has bound
// for it (spec 03 §11): usher's bind their own, and those of v1 get it from listenV1.
func v1Environment(t *target) []string {
	env := []string{
		endpoint.IsDaemonVariable + "=1",
		endpoint.ServiceVariable + "=" + t.key.Service,
		endpoint.VersionVariable + "=" + t.key.Version,
		endpoint.InstanceVariable + "=" + t.key.Instance,
	}
	if t.request.Traceparent != "" {
		env = append(env, endpoint.TraceparentVariable+"="+t.request.Traceparent)
	}
	if t.request.Tracestate != "" {
		env = append(env, endpoint.TracestateVariable+"="+t.request.Tracestate)
	}
	return env
}

// open opens the executable, if it is not open yet, and finds out which build it is. It is
// canonical, and that of one version lies below its root.
func (p *program) open(ctx context.Context, hashes *filehash.Cache) (err error) {
	if p.file != nil {
		p.script = isScript(p.file)
		return nil
	}
	if p.preferred != "" {
		switch path, err := p.canonicalPreferred(); {
		case err == nil:
			p.path, p.named = path, p.preferred // below root also where that is a link
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	p.name = p.path
	if p.path, err = filepath.EvalSymlinks(p.path); err != nil {
		return err
	}
	if p.file, err = os.Open(p.path); err != nil {
		return err
	}
	p.script = isScript(p.file)
	p.build, err = hashes.HashFile(ctx, p.file) // not by the path, which may lead to another build by now
	return err
}

// isScript reports whether a file names the program that is to read it.
func isScript(f *os.File) bool {
	var mark [2]byte
	n, _ := f.ReadAt(mark[:], 0)
	return n == len(mark) && string(mark[:]) == "#!"
}

func (p *program) canonicalPreferred() (string, error) {
	root, err := filepath.EvalSymlinks(p.root)
	if err != nil {
		return "", err
	}
	path, err := filepath.EvalSymlinks(p.preferred)
	if err != nil {
		return "", err
	}
	if rel, err := filepath.Rel(root, path); err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("%s leads to %s, outside of %s", p.preferred, path, root)
	}
	return path, nil
}

// launching is what the job that starts a process has to know.
type launching struct {
	logDir, broker, service, variant string
	hashes                           *filehash.Cache
	v1                               bool
	instance                         string          // the namespace of a v1 instance's endpoint
	inUse                            map[string]bool // logs
}

// oldLogs is how many logs of own builds stay beside those in use: each build and each key
// has one of its own.
const oldLogs = 32

func (s *server) launching(key registry.Key) launching {
	return launching{
		logDir: s.opts.LogDir, broker: s.binding.Path, service: key.Service, variant: key.Variant,
		hashes: s.files.hashes, inUse: s.logsInUse(key.Service), instance: key.Instance,
	}
}

// launched is a process with its log.
type launched struct {
	*launch.Process
	program *program
	log     string
	from    int64  // where in the log it begins
	pipe    string // of a v1 instance
}

// launch is the job: it starts p, and closes what is given to the process.
func (j launching) launch(ctx context.Context, p *program, given []*sock.FD) (launched, error) {
	i, err := j.bequeath(given)
	if err != nil {
		return launched{program: p}, err
	}
	l, log, err := j.open(ctx, p)
	defer func() { i.release(l.Process != nil) }()
	l.pipe = i.pipe
	if err != nil {
		return l, err
	}
	defer log.Close()
	spec := j.spec(p, log)
	spec.Inherit, spec.Given, spec.Numbers = i.files, i.given, i.numbers
	spec.Env = append(spec.Env, i.env...)
	if l.Process, err = launch.Start(spec); err != nil {
		return l, err
	}
	for _, fd := range i.given {
		if err := fd.GivenTo(l.PID()); err != nil {
			err = fmt.Errorf("pass connections to it: %w (it %v)", err, l.End(ctx, 0))
			l.Process = nil
			return l, err
		}
	}
	return l, nil
}

// open opens the program, and its log, which the caller closes.
func (j launching) open(ctx context.Context, p *program) (l launched, log *os.File, err error) {
	l = launched{program: p, log: filepath.Join(j.logDir, logName(j.service, j.variant))}
	if err := errors.Join(p.open(ctx, j.hashes), ctx.Err()); err != nil {
		return l, nil, err
	}
	if err := endpoint.EnsureState(j.logDir); err != nil {
		return l, nil, fmt.Errorf("log: %w", err)
	}
	if j.variant != "" {
		logfile.KeepNewest(j.logDir, oldLogs, func(name string) bool {
			return len(name) == len(filepath.Base(l.log)) && strings.HasPrefix(name, j.service+"-") && strings.HasSuffix(name, ".log") && !j.inUse[name]
		})
	}
	if err := logfile.Bound(l.log, logfile.Max); err != nil {
		return l, nil, err
	}
	if log, err = logfile.Open(l.log); err != nil {
		return l, nil, err
	}
	if fi, err := log.Stat(); err == nil {
		l.from = fi.Size()
	}
	return l, log, nil
}

// spec is what every process is started with. What is for an interpreter is run by its
// path, where that will find it.
func (j launching) spec(p *program, log *os.File) launch.Spec {
	file := p.file
	if p.script {
		file = nil
	}
	name := p.path
	if p.name != "" {
		name = p.name
	}
	return launch.Spec{
		Program: file, Path: name, Args: p.args, Dir: p.dir, Output: log,
		Env: append(launch.Baseline(p.env...), endpoint.SocketVariable+"="+j.broker),
	}
}

// inheritance is what an instance gets from its broker.
type inheritance struct {
	files   []*os.File
	given   []*sock.FD
	numbers string             // a variable that says what they are
	env     []string           // says more
	pipe    string             // that it listens at, where the broker has bound it
	release func(started bool) // closes the broker's copies
}

// bequeath gives an instance its channel and its page; or binds the pipe of one that knows no
// channel.
func (j launching) bequeath(given []*sock.FD) (i inheritance, err error) {
	if j.v1 {
		return listenV1(j.instance)
	}
	return inheritance{given: given, numbers: endpoint.ChannelVariable, release: func(bool) {
		for _, fd := range given {
			fd.Close()
		}
	}}, nil
}

func logName(service, variant string) string {
	if variant == "" {
		return service + ".log"
	}
	return service + "-" + variant + ".log"
}
