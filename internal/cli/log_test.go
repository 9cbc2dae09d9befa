package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestLogFormats(t *testing.T) {
	for _, format := range []string{logAuto, logJSON, logText} {
		t.Run(format, func(t *testing.T) {
			var out bytes.Buffer // no terminal
			log, end, err := startLog(&out, "warn", format)
			if err != nil {
				t.Fatal(err)
			}
			log.Info("not logged")
			log.Warn("logged", "key", "value")
			end()
			if isJSON := json.Valid(out.Bytes()); isJSON != (format != logText) {
				t.Errorf("JSON: %t", isJSON)
			}
			text := out.String()
			if strings.Contains(text, "not logged") || !strings.Contains(text, "value") || strings.Contains(text, "\x1b") {
				t.Errorf("log is %q", text)
			}
		})
	}
}

func TestLogRefuses(t *testing.T) {
	for _, tc := range []struct{ level, format string }{{"loud", logAuto}, {"info", "xml"}, {"", logAuto}} {
		if _, _, err := startLog(new(bytes.Buffer), tc.level, tc.format); err == nil {
			t.Errorf("level %q with format %q was accepted", tc.level, tc.format)
		}
	}
}
