// Command plot draws what `usher bench handoff --json` measured:
//
//	go run ./cmd/usher bench handoff --json > report.json
//	go run ./bench/plot -o docs/latency.svg report.json
//
// It is a command of its own so that no binary that ships links what draws.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/go-analyze/charts"

	"github.com/seed-7265657e/usher/internal/bench"
)

func main() {
	if err := run(os.Args[1:], os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

func run(args []string, stdin io.Reader) error {
	flags := flag.NewFlagSet("plot", flag.ContinueOnError)
	out := flags.String("o", "latency.svg", "draw into this file: .svg or .png")
	flags.Usage = func() {
		_, _ = fmt.Fprintln(flags.Output(), "usage: plot [-o FILE] [REPORT]\nThe report is the JSON of usher bench handoff; without one, standard input.")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	format, known := map[string]string{".svg": charts.ChartOutputSVG, ".png": charts.ChartOutputPNG}[filepath.Ext(*out)]
	if !known {
		return fmt.Errorf("%s: name a file that ends in .svg or .png", *out)
	}
	in := stdin
	if path := flags.Arg(0); path != "" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	report := new(bench.Report)
	if err := json.NewDecoder(in).Decode(report); err != nil {
		return fmt.Errorf("read the report: %w", err)
	}
	f, err := os.Create(*out)
	if err != nil {
		return err
	}
	return errors.Join(draw(f, report, format), f.Close())
}
