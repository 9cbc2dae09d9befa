package identity

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/filehash"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

type identityVectors struct {
	Image  string `json:"image_utf8"`
	BLAKE3 string
	SHA256 string
	Decode []struct {
		Name, Hex, Expect string
	}
	ProbeCompare struct {
		Expected map[string]any
		Cases    []struct {
			Change map[string]any
			Expect string
		}
	} `json:"probe_compare"`
}

type probeVectors struct {
	Probe struct {
		Nonce     string
		RequestID string `json:"request_id"`
		Requests  []probeCase
		Responses []probeCase
	}
}

type probeCase struct {
	Name, Expect string
	Wire         string `json:"wire_hex"`
}

func (c probeCase) frame(t *testing.T) *wire.Frame {
	t.Helper()
	f, _, err := frame.Decode(testutil.Hex(t, c.Wire), frame.MaxBody)
	if err != nil {
		t.Fatalf("%s: %v", c.Name, err)
	}
	return f
}

// demoDaemon is the daemon_process of the vectors.
func demoDaemon(t *testing.T) *wire.DaemonProcess {
	t.Helper()
	var v struct {
		Vectors []struct {
			Name, Message string
			Fields        map[string]any
		}
	}
	testutil.Vectors(t, "messages.json", &v)
	for _, m := range v.Vectors {
		if m.Name == "daemon_process" {
			return testutil.Message(t, m.Message, m.Fields).(*wire.DaemonProcess)
		}
	}
	t.Fatal("no daemon_process among the vectors")
	return nil
}

func TestFileHashVector(t *testing.T) {
	var v identityVectors
	testutil.Vectors(t, "identity.json", &v)
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, []byte(v.Image), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := FileHash(path)
	if err != nil || hex.EncodeToString(d.BLAKE3[:]) != v.BLAKE3 || hex.EncodeToString(d.SHA256[:]) != v.SHA256 {
		t.Errorf("FileHash = %x, %v", d, err)
	}
	sum, err := new(filehash.Cache).Hash(t.Context(), path)
	if err != nil || sum != d.BLAKE3 {
		t.Errorf("filehash.Cache.Hash = %x, %v", sum, err)
	}
}

func TestDecodeVectors(t *testing.T) {
	var v identityVectors
	testutil.Vectors(t, "identity.json", &v)
	for _, c := range v.Decode {
		p, err := Decode(testutil.Hex(t, c.Hex))
		ok := false
		switch c.Expect {
		case "MissingEndpoint":
			ok = errors.Is(err, ErrMissingEndpoint)
		case "UnsupportedExecutableHashAlgorithm":
			ok = err != nil && strings.HasPrefix(err.Error(), "executable hash algorithm ")
		case "InvalidExecutableHashLength 2":
			ok = err != nil && strings.HasPrefix(err.Error(), "executable hash has 2 bytes")
		case "ok, equal to daemon_process":
			ok = err == nil && testutil.Equal(p, demoDaemon(t))
		}
		if !ok {
			t.Errorf("%s: %v, %v; want %s", c.Name, p, err, c.Expect)
		}
	}
}

func TestAnswerProbeVectors(t *testing.T) {
	var v probeVectors
	testutil.Vectors(t, "invalid.json", &v)
	for _, c := range v.Probe.Requests {
		request := c.frame(t)
		answer, err := AnswerProbe(request, demoDaemon(t), [HashLen]byte{})
		if strings.HasPrefix(c.Expect, "ok") {
			if err != nil || answer.RequestId != request.RequestId {
				t.Errorf("%s: %v, %v", c.Name, answer, err)
			}
		} else if err == nil || err.Error() != c.Expect {
			t.Errorf("%s: error %v, want %q", c.Name, err, c.Expect)
		}
	}
}

// TestFramedProbeVectors compares request and answer byte for byte.
func TestFramedProbeVectors(t *testing.T) {
	var v struct {
		Vectors []struct {
			Name, Hex, Nonce string
			Legacy           string `json:"legacy_sha256"`
		}
	}
	testutil.Vectors(t, "framed.json", &v)
	seen := 0
	var request *wire.Frame
	for _, c := range v.Vectors {
		var built *wire.Frame
		switch c.Name {
		case "probe_request":
			request = newProbe([nonceLen]byte(testutil.Hex(t, c.Nonce)))
			built = request
		case "probe_response":
			var err error
			built, err = AnswerProbe(request, demoDaemon(t), [HashLen]byte(testutil.Hex(t, c.Legacy)))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := judge(request, built); err != nil || mismatch(demoDaemon(t), got) != "" {
				t.Errorf("judge: %v, %v", got, err)
			}
		default:
			continue
		}
		seen++
		if wire, err := frame.Append(nil, built); err != nil || hex.EncodeToString(wire) != c.Hex {
			t.Errorf("%s: %x, %v; want %s", c.Name, wire, err, c.Hex)
		}
	}
	if seen != 2 {
		t.Errorf("%d probe vectors found, want 2", seen)
	}
}

func TestJudgeVectors(t *testing.T) {
	var v probeVectors
	testutil.Vectors(t, "invalid.json", &v)
	request := newProbe([nonceLen]byte(testutil.Hex(t, v.Probe.Nonce)))
	if request.RequestId != binary.LittleEndian.Uint64(request.Payload) {
		t.Errorf("request id %d", request.RequestId)
	}
	for _, c := range v.Probe.Responses {
		got, err := judge(request, c.frame(t))
		ok := false
		switch c.Expect {
		case "ok":
			ok = err == nil && testutil.Equal(got, demoDaemon(t))
		case "identity decode error":
			var decode *frame.DecodeError
			ok = errors.As(err, &decode)
		case "MissingEndpoint":
			ok = errors.Is(err, ErrMissingEndpoint)
		default:
			ok = err != nil && strings.HasPrefix(err.Error(), c.Expect)
		}
		if !ok {
			t.Errorf("%s: %v, %v; want %s", c.Name, got, err, c.Expect)
		}
	}
}

// TestJudgeOrder: the request id is judged behind the protocol and before the
// encoding.
func TestJudgeOrder(t *testing.T) {
	request := newProbe([nonceLen]byte{1})
	wrong := frame.Response(request, nil)
	wrong.RequestId, wrong.PayloadEncoding = 0, wire.PayloadEncoding_PAYLOAD_ENCODING_ZSTD
	if _, err := judge(request, wrong); err == nil || err.Error() != "request_id does not match" {
		t.Errorf("id and encoding wrong: %v", err)
	}
	wrong.PayloadProtocol = frame.Admin
	if _, err := judge(request, wrong); err == nil || err.Error() != "payload_protocol is not endpoint probe" {
		t.Errorf("protocol, id and encoding wrong: %v", err)
	}
}

func TestSelf(t *testing.T) {
	self, legacy, err := Self("shared", "/run/x.sock")
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	want, err := FileHash(exe)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := BootID()
	if err != nil || boot == "" || runtime.GOOS == "linux" && len(boot) != 36 {
		t.Errorf("BootID = %q, %v", boot, err)
	}
	if legacy != want.SHA256 || string(self.ExeHash) != string(want.BLAKE3[:]) {
		t.Error("hashes differ from those of the executable")
	}
	if self.Pid != uint32(os.Getpid()) || self.ExePath != exe || self.BootId != boot || self.StartedAtUnixMs == 0 {
		t.Errorf("Self = %v", self)
	}
	if back, err := Decode(wire.Marshal(self)); err != nil || mismatch(self, back) != "" {
		t.Errorf("Self does not pass its own checks: %v", err)
	}
}
