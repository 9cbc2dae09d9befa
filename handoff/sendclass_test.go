package handoff_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

type errnoVector struct {
	Errno     []string `json:"errno"`
	ShortSend string   `json:"short_send"`
	Class     string   `json:"class"`
	Reason    string   `json:"reason"`
	Reached   bool     `json:"fd_may_have_reached_backend"`
}

type errnoVectors struct {
	ErrnoMap struct {
		Sendmsg     []errnoVector `json:"sendmsg"`
		Connect     []errnoVector `json:"connect"`
		Unsupported errnoVector   `json:"unsupported_platform"`
	} `json:"errno_map"`
}

func readErrnoVectors(t *testing.T) errnoVectors {
	t.Helper()
	var v errnoVectors
	testutil.Vectors(t, "behaviour.json", &v)
	if len(v.ErrnoMap.Sendmsg) == 0 || len(v.ErrnoMap.Connect) == 0 {
		t.Fatal("no vectors")
	}
	return v
}

func checkSendError(t *testing.T, got *handoff.SendError, class, reason string, reached bool) {
	t.Helper()
	if string(got.Class) != class || string(got.Reason()) != reason || got.Reached() != reached {
		t.Errorf("%v: got %s, %s, reached %v; want %s, %s, reached %v",
			got, got.Class, got.Reason(), got.Reached(), class, reason, reached)
	}
	if got.Stage != handoff.StageSend {
		t.Errorf("%v: stage %s", got, got.Stage)
	}
}

func TestPartialSendVector(t *testing.T) {
	for _, v := range readErrnoVectors(t).ErrnoMap.Sendmsg {
		if v.ShortSend == "" {
			continue
		}
		class, _, _ := strings.Cut(v.Class, "(")
		for _, n := range []int{1, 15} {
			checkSendError(t, handoff.PartialSend(n), class, v.Reason, v.Reached)
		}
	}
}

func TestUnsupportedPlatformVector(t *testing.T) {
	want := readErrnoVectors(t).ErrnoMap.Unsupported
	err := fmt.Errorf("passing handles: %w", errors.ErrUnsupported)
	checkSendError(t, handoff.ClassifySend(err), want.Class, want.Reason, false)
	checkSendError(t, handoff.ClassifyConnect(err), want.Class, want.Reason, false)
	if reason := handoff.ClassifySend(err).Reason(); reason.Failure() {
		t.Errorf("%s counts as a failure of the backend", reason)
	}
}

func TestClassifyOtherErrors(t *testing.T) {
	full := fmt.Errorf("write: %w", os.ErrDeadlineExceeded)
	checkSendError(t, handoff.ClassifySend(full), "WouldBlock", "BackendAckTimeout", false)
	checkSendError(t, handoff.ClassifyConnect(full), "BackendUnavailable", "BackendAckTimeout", false)
	other := errors.New("something else")
	checkSendError(t, handoff.ClassifySend(other), "Failed", "BackendAckTimeout", false)
	checkSendError(t, handoff.ClassifyConnect(other), "BackendUnavailable", "BackendAckTimeout", false)
	left := fmt.Errorf("%w: %w", sock.ErrLeftBehind, errno.EAGAIN)
	checkSendError(t, handoff.ClassifySend(left), "PostTransferDeliveryFailed", "BackendAckTimeout", true)
	checkSendError(t, handoff.ClassifySend(fmt.Errorf("%w: %w", sock.ErrNotOpened, other)), "CannotOpenBackend", "PermissionDenied", false)
	checkSendError(t, handoff.ClassifySend(fmt.Errorf("%w: %w", sock.ErrNotDuplicated, other)), "DuplicateFailed", "PermissionDenied", false)
	for _, failed := range []error{sock.ErrNotOpened, sock.ErrNotDuplicated} {
		denied := fmt.Errorf("%w: %w", failed, fs.ErrPermission)
		checkSendError(t, handoff.ClassifySend(denied), "PermissionDenied", "PermissionDenied", false)
	}
	if !errors.Is(handoff.ClassifySend(other), other) {
		t.Error("the cause is lost")
	}
}

// TestMayHaveReached: once a byte has gone, no class denies it.
func TestMayHaveReached(t *testing.T) {
	for class, whenNothingSent := range map[handoff.SendClass]bool{
		handoff.SendUnsupportedPlatform:        false,
		handoff.SendPermissionDenied:           false,
		handoff.SendBackendUnavailable:         false,
		handoff.SendWouldBlock:                 false,
		handoff.SendFailed:                     false,
		handoff.SendPartial:                    false,
		handoff.SendPostTransferDeliveryFailed: true,
	} {
		if got := class.MayHaveReached(0); got != whenNothingSent {
			t.Errorf("%s after nothing: %v", class, got)
		}
		if !class.MayHaveReached(1) {
			t.Errorf("%s after one byte: no", class)
		}
	}
}

func TestSendErrorText(t *testing.T) {
	for want, err := range map[string]*handoff.SendError{
		"handoff failed at Send: PartialSend after 7 bytes": handoff.PartialSend(7),
		"handoff failed at Deliver: PostTransferDeliveryFailed: broken": {
			Stage: handoff.StageDeliver, Class: handoff.SendPostTransferDeliveryFailed, Err: errors.New("broken"),
		},
	} {
		if err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
}
