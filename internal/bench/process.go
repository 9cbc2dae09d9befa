package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// ProcessFigures compare two short programs, each run whole: one asks the service
// through the SDK, the other dials the same backend's pipe.
type ProcessFigures struct {
	ProcessRatio Figure  `json:"process_ratio"` // of the medians
	BinaryRatio  float64 `json:"binary_ratio"`
	Pairs        int     `json:"pairs"`
	SDK          Program `json:"sdk"`
	Direct       Program `json:"direct"`
}

// Program is one of the two.
type Program struct {
	P50   Figure `json:"p50_us"` // from its start until its end was seen
	Bytes int64  `json:"binary_bytes"`
}

// Goals of ProcessFigures.
const (
	mostProcess = 1.20
	mostBinary  = 1.4
)

const (
	processPairs      = 400
	processPairsQuick = 100
	processWarm       = 5 // pairs that are not kept
)

// clients are the packages of the two programs, SDK's first.
var clients = [...]string{
	"github.com/seed-7265657e/usher/bench/oneshot/sdk",
	"github.com/seed-7265657e/usher/bench/oneshot/direct",
}

// Process measures ProcessFigures. It builds the two programs, for which it has to
// run in usher's source tree, with a Go toolchain.
func Process(ctx context.Context, o Options) (f *ProcessFigures, err error) {
	err = with(ctx, &o, func(s *site) error {
		o.Progress("building two clients")
		var programs [len(clients)]string
		for i, pkg := range clients {
			programs[i] = s.Path(filepath.Base(pkg))
			if err := buildClient(ctx, programs[i], pkg); err != nil {
				return err
			}
		}
		f, err = s.process(ctx, o, programs)
		return err
	})
	return f, err
}

func buildClient(ctx context.Context, out, pkg string) error {
	goTool, err := exec.LookPath("go")
	if err != nil {
		return fmt.Errorf("the programs to measure are built first: put a Go toolchain on PATH: %w", err)
	}
	said, err := exec.CommandContext(ctx, goTool, "build", "-o", out, pkg).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build %s, for which this has to run in usher's source tree: %w\n%s", pkg, err, said)
	}
	return nil
}

// process runs the programs in turns, one by one; which is first in a pair is random.
func (s *site) process(ctx context.Context, o Options, programs [len(clients)]string) (f *ProcessFigures, err error) {
	t := target{s.SocketNamed("i"), s.SocketNamed("ip")}
	for _, role := range [][]string{{"broker"}, {"backend", "--inline", "--pipe", t.Pipe}} {
		p, startErr := s.start(ctx, t.Socket, role[0], role[1:]...)
		if startErr != nil {
			return nil, startErr
		}
		defer func() { err = errors.Join(err, p.Quit()) }()
	}
	f = &ProcessFigures{Pairs: processPairs}
	if o.Quick {
		f.Pairs = processPairsQuick
	}
	addresses := [len(clients)]string{t.Socket, t.Pipe}
	rng := rand.New(rand.NewPCG(1, 0))
	var took [len(clients)][]float64
	for pair := range f.Pairs + processWarm {
		if pair%20 == 0 {
			o.Progress(fmt.Sprintf("whole processes, pair %d of %d", pair, f.Pairs))
		}
		for _, i := range rng.Perm(len(clients)) {
			us, err := s.runClient(ctx, programs[i], addresses[i])
			if err != nil {
				return nil, err
			}
			if pair >= processWarm {
				took[i] = append(took[i], us)
			}
		}
	}
	return f, f.sum(took, programs)
}

// runClient runs a program and returns how long it took, in µs.
func (s *site) runClient(ctx context.Context, program, address string) (us float64, err error) {
	cmd := exec.CommandContext(ctx, program, address)
	cmd.Env, cmd.Dir, cmd.Stderr = s.Env, s.Dir, os.Stderr
	began := time.Now()
	answer, err := cmd.Output()
	took := time.Since(began)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s: %w", filepath.Base(program), err)
	case len(answer) != request:
		return 0, fmt.Errorf("%s printed %d bytes, not the answer's %d", filepath.Base(program), len(answer), request)
	}
	return float64(took.Nanoseconds()) / 1e3, nil
}

func (f *ProcessFigures) sum(took [len(clients)][]float64, programs [len(clients)]string) (err error) {
	for i, p := range [len(clients)]*Program{&f.SDK, &f.Direct} {
		if p.P50, err = Percentile([][]float64{took[i]}, 0.50); err != nil {
			return err
		}
		info, err := os.Stat(programs[i])
		if err != nil {
			return err
		}
		p.Bytes = info.Size()
	}
	f.BinaryRatio = float64(f.SDK.Bytes) / float64(f.Direct.Bytes)
	f.ProcessRatio, err = ratio([][]float64{took[0]}, [][]float64{took[1]}, 0.50)
	return err
}

// Write shows the figures as text.
func (f *ProcessFigures) Write(w io.Writer) error {
	t := newTable(w)
	t.row("one-shot client, %d pairs\tP50 ms\t\tbinary MB", f.Pairs)
	for i, p := range []Program{f.SDK, f.Direct} {
		t.row("  %s\t%.2f\t[%.2f–%.2f]\t%.2f", []string{"client.DialWith", "net.Dial"}[i],
			p.P50.Value/1e3, p.P50.Low/1e3, p.P50.High/1e3, float64(p.Bytes)/1e6)
	}
	r := f.ProcessRatio
	t.row("  ratio\t%.2f\t[%.2f–%.2f]\t%.2f", r.Value, r.Low, r.High, f.BinaryRatio)
	t.row("  goal\tat most %.2f\t%s\tat most %.2f, %s", mostProcess, met(r.Value <= mostProcess), mostBinary, met(f.BinaryRatio <= mostBinary))
	return t.Flush()
}

func met(ok bool) string {
	if ok {
		return "ok"
	}
	return "MISSED"
}
