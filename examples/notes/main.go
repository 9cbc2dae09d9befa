// Notes is a small HTTP service behind usher. Define it, run it, use it:
//
//	go build -o notes ./examples/notes
//	usher service add notes --binary ./notes
//	usher serve &
//	./notes &
//	printf 'GET /notes HTTP/1.0\r\n\r\n' | usher connect notes
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/seed-7265657e/usher/examples/notes/notes"
)

func main() {
	var opts notes.Options
	flag.StringVar(&opts.Broker, "socket", "", "the broker's `path` (default $RUNNING_PROCESS_BROKER_V1_SOCKET, else this user's shared broker)")
	flag.StringVar(&opts.Pipe, "pipe", "", "`path` of the own socket (default a fresh name)")
	flag.StringVar(&opts.Version, "version", notes.DefaultVersion, "the `version` to serve")
	flag.Parse()
	opts.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := notes.Run(ctx, opts); err != nil {
		opts.Logger.Error("notes ended", "error", err)
		os.Exit(1)
	}
}
