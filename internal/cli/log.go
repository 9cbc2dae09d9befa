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

// newLogger writes to w what is at level ("debug", "info", "warn", "error") or
// above. Text has colours on a terminal only, and none when NO_COLOR is set.
func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q is not one of debug, info, warn, error", level)
	}
	terminal := isTerminal(w)
	switch {
	case format == logJSON, format == logAuto && !terminal:
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: least})), nil
	case format == logText, format == logAuto:
		return slog.New(tint.NewTextHandler(w, &tint.Options{
			Level:      least,
			TimeFormat: time.TimeOnly,
			NoColor:    !terminal || os.Getenv("NO_COLOR") != "",
		})), nil
	}
	return nil, fmt.Errorf("log format %q is not one of %s, %s, %s", format, logAuto, logText, logJSON)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
