// Command peers measures usher against what else stands between a client and a
// backend: the same client, the same echoing backend wherever the peer allows it,
// one interleaved run.
//
//	go run ./bench/peers [--json] [--rounds N] [--only NAME,…]
//	go run ./bench/peers modes [--json] [--rounds N | --quick] [--only MODE,…]
//
// modes compares what starts, or stands before, programs that know nothing of it: usher's
// modes inetd, listen-fds and relay, the last (relay-close) for clients that close, too.
//
// Programs that are not installed get a row that says so; install.sh beside this
// file installs them on Debian. Linux.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "role" {
		return role(ctx, args[1:])
	}
	modes := len(args) > 0 && args[0] == "modes"
	if modes {
		args = args[1:]
	}
	flags := flag.NewFlagSet("peers", flag.ExitOnError)
	asJSON := flags.Bool("json", false, "print JSON")
	rounds := flags.Int("rounds", 40, "rounds, at most 500; in each, every peer has its turn")
	var only string
	var quick bool
	what := "rows"
	if modes {
		what = "modes"
		flags.BoolVar(&quick, "quick", false, "few rounds, which judge nothing")
	}
	flags.StringVar(&only, "only", "", "names of the "+what+" to measure, with commas between; all when empty")
	_ = flags.Parse(args) // ends the program by itself
	if *rounds < 1 || *rounds > 500 || flags.NArg() > 0 {
		flags.Usage()
		return fmt.Errorf("--rounds must be from 1 to 500, and no argument follows")
	}
	if quick {
		*rounds = 5
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute+time.Duration(*rounds)*longestRound)
	defer cancel()
	s, err := newSite(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	progress := func(line string) { fmt.Fprintln(os.Stderr, line) }
	chosen := map[string]bool{}
	for _, name := range strings.FieldsFunc(only, func(r rune) bool { return r == ',' }) {
		chosen[name] = true
	}
	if modes {
		rows, err := s.measureModes(ctx, *rounds, chosen, progress)
		if err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(os.Stdout, rows)
		}
		return writeModesText(os.Stdout, rows)
	}
	rows, err := s.measure(ctx, *rounds, chosen, progress)
	if err != nil {
		return err
	}
	if *asJSON {
		return writeJSON(os.Stdout, rows)
	}
	return writeText(os.Stdout, rows)
}

// longestRound bounds a run: a round takes a tenth of it where nothing else runs.
const longestRound = 5 * time.Second
