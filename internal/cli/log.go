package cli

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// Log formats.
const (
	logAuto = "auto" // text on a terminal, else JSON
	logText = "text"
	logJSON = "json"
)

// logPatience bounds the wait for the log's reader at the end.
const logPatience = time.Second

// startLog returns a logger to w that no reader of w can hold up (see logSink).
// end ends it and waits for the last lines, at most logPatience.
func startLog(w io.Writer, level, format string) (log *slog.Logger, end func(), err error) {
	loggerTo, err := parseLog(level, format, isTerminal(w))
	if err != nil {
		return nil, nil, err
	}
	direct := loggerTo(w)
	sink := newLogSink(w, func(lost int) { // an error, as that is logged at every level
		direct.Error("log lines lost: whoever reads the log did not keep up", "lines", lost)
	})
	return loggerTo(sink), func() { sink.close(logPatience) }, nil
}

// parseLog returns what makes loggers of what is at level ("debug", "info",
// "warn", "error") or above; they write each record at once. Text has colours on
// a terminal only, and none when NO_COLOR is set.
func parseLog(level, format string, terminal bool) (loggerTo func(io.Writer) *slog.Logger, err error) {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q is not one of debug, info, warn, error", level)
	}
	switch {
	case format == logJSON, format == logAuto && !terminal:
		return func(w io.Writer) *slog.Logger {
			return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: least}))
		}, nil
	case format == logText, format == logAuto:
		return func(w io.Writer) *slog.Logger {
			return slog.New(tint.NewTextHandler(w, &tint.Options{
				Level:      least,
				TimeFormat: time.TimeOnly,
				NoColor:    !terminal || os.Getenv("NO_COLOR") != "",
			}))
		}, nil
	}
	return nil, fmt.Errorf("log format %q is not one of %s, %s, %s", format, logAuto, logText, logJSON)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
