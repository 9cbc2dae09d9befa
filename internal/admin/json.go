package admin

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/seed-7265657e/usher/internal/wire"
)

// object is a JSON object; encoding/json writes the keys of a map in
// alphabetical order at every level, as spec 04 §2 wants them.
type object map[string]any

// schemaVersion of every JSON body. New keys don't change it.
const schemaVersion = 1

// json adds the common keys to body and makes a reply of it.
func (s *Snapshot) json(command string, body object) *wire.AdminReply {
	body["schema_version"] = schemaVersion
	body["command"] = command
	body["generated_at_unix_ms"] = s.Now.UnixMilli()
	return &wire.AdminReply{
		Kind:        wire.AdminReplyKind_ADMIN_REPLY_KIND_JSON,
		Body:        render(body),
		ExitCode:    exitDone,
		ContentType: "application/json",
	}
}

// render writes one line without spaces, a final newline or HTML escapes.
func render(body object) string {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	// Bodies hold text, numbers, booleans, slices and objects: nothing that
	// encoding/json could refuse.
	_ = enc.Encode(body)
	return strings.TrimSuffix(line.String(), "\n")
}

// fraction is a number that always shows a fraction, as 12.0. It is finite.
type fraction float64

// MarshalJSON implements json.Marshaler.
func (f fraction) MarshalJSON() ([]byte, error) {
	digits := strconv.FormatFloat(float64(f), 'f', -1, 64)
	if !strings.Contains(digits, ".") {
		digits += ".0"
	}
	return []byte(digits), nil
}
