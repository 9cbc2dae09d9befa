package languages

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
	"github.com/seed-7265657e/usher/internal/world"
)

const page = "../../docs/other-languages.md"

// blocks are the page's blocks of code in a language.
func blocks(t *testing.T, language string) (found []string) {
	t.Helper()
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for i, block := range strings.Split(string(content), "```") {
		if i%2 == 1 {
			if first, rest, _ := strings.Cut(block, "\n"); first == language {
				found = append(found, rest)
			}
		}
	}
	return found
}

// TestPagePrograms runs the client and the backend that docs/other-languages.md shows, as
// they stand there, and holds them to the lengths that it promises.
func TestPagePrograms(t *testing.T) {
	testutil.Needs(t, "pages of claims")
	shown := blocks(t, "python")
	if len(shown) != 2 {
		t.Fatalf("%d programs in %s, want a client and a backend", len(shown), page)
	}
	dir := t.TempDir()
	for i, program := range []struct {
		name string
		most int // lines that are not empty
	}{{"client.py", 43}, {"backend.py", 80}} {
		if n := len(regexp.MustCompile(`(?m)^.*\S`).FindAllString(shown[i], -1)); n > program.most {
			t.Errorf("%s has %d lines, want %d", program.name, n, program.most)
		}
		if err := os.WriteFile(filepath.Join(dir, program.name), []byte(shown[i]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program := func(t *testing.T, executable string, _ fault) world.Command {
		return world.Command{Args: []string{executable, filepath.Join(dir, "backend.py")}}
	}
	asked := clientProgram{"the page's", func(t *testing.T, w *fixture, id string, _ bool) result {
		return run(t, w, id, []string{python(t), filepath.Join(dir, "client.py")}, true)
	}, false}
	w := newFixture(t, backendProgram{"the page's", false, python, program}, patience)
	w.start(fault{})
	for _, c := range []clientProgram{asked, goClient} {
		if got := w.ask(c, true); got.verdict != answered {
			t.Errorf("%s client: %q %s", c.name, got.verdict, got.detail)
		}
	}
	if n := w.status().Clients.Reconnected; n != 0 {
		t.Errorf("%d clients reconnected", n)
	}
}

// TestPageBytes decodes the frames that the page shows, and encodes them again.
func TestPageBytes(t *testing.T) {
	testutil.Needs(t, "pages of claims")
	messages := []wire.Message{
		new(wire.Hello), new(wire.HelloReply), new(wire.HandoffAck), new(wire.HelloReply),
		new(wire.Register), new(wire.Registered), new(wire.Offer), new(wire.Ack), new(wire.Ack),
	}
	shown := blocks(t, "")
	if len(shown) != len(messages) {
		t.Fatalf("%d dumps in %s, want %d", len(shown), page, len(messages))
	}
	digits := regexp.MustCompile(`^ *((?:[0-9a-f]{2})+(?: (?:[0-9a-f]{2})+)*)(?:  .*)?$`)
	for i, dump := range shown {
		var data []byte
		for line := range strings.Lines(dump) {
			found := digits.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
			if found == nil {
				t.Fatalf("no bytes in %q", line)
			}
			b, err := hex.DecodeString(strings.ReplaceAll(found[1], " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			data = append(data, b...)
		}
		f, _, err := frame.Read(bytes.NewReader(data), uint32(len(data)))
		if err != nil {
			t.Errorf("dump %d: %v", i, err)
			continue
		}
		name := fmt.Sprintf("%T", messages[i])
		if err := frame.Unmarshal(f.Payload, messages[i]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		f.Payload = wire.Marshal(messages[i])
		again, err := frame.Append(nil, f)
		if err != nil || !bytes.HasPrefix(data, again) {
			t.Errorf("%s is encoded as\n%x, and the page shows\n%x (%v)", name, again, data, err)
		}
	}
}
