// Command peers measures usher against what else stands between a client and a
// backend: the same client, the same echoing backend wherever the peer allows it,
// one interleaved run.
//
//	go run ./bench/peers [--json] [--rounds N] [--only NAME,…]
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
	flags := flag.NewFlagSet("peers", flag.ExitOnError)
	asJSON := flags.Bool("json", false, "print JSON")
	rounds := flags.Int("rounds", 40, "rounds; in each, every peer has its turn")
	only := flags.String("only", "", "names of the rows to measure, with commas between; all when empty")
	_ = flags.Parse(args) // ends the program by itself
	if *rounds < 1 || flags.NArg() > 0 {
		flags.Usage()
		return fmt.Errorf("--rounds must be at least 1, and no argument follows")
	}
	s, err := newSite(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	chosen := map[string]bool{}
	for _, name := range strings.FieldsFunc(*only, func(r rune) bool { return r == ',' }) {
		chosen[name] = true
	}
	rows, err := s.measure(ctx, *rounds, chosen, func(line string) { fmt.Fprintln(os.Stderr, line) })
	if err != nil {
		return err
	}
	if *asJSON {
		return writeJSON(os.Stdout, rows)
	}
	return writeText(os.Stdout, rows)
}
