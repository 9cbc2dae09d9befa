package broker

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/filehash"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestV1Patience: two attempts and an answer fit into the time after which a stock client of v1
// reconnects anyway.
func TestV1Patience(t *testing.T) {
	if left := v1Patience - 2*v1AckDeadline; left < v1Patience/20 {
		t.Errorf("two attempts of %v leave %v", v1AckDeadline, left)
	}
}

// TestReclaimed: no process is started for a connection that has been taken back, and its
// client is told nothing by who would have started it.
func TestReclaimed(t *testing.T) {
	for name, first := range map[string][]byte{"who said Hello": []byte("first words"), "a plain client": nil} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			fds := testutil.FDPair(t, unix.SOCK_STREAM)
			client, conn := testutil.Conn(t, fds[0]), sock.NewConn(sock.Own(fds[1]))
			var taken atomic.Bool
			taken.Store(true)
			p := &program{path: "/bin/echo", args: []string{"it runs"}}
			j := launching{logDir: filepath.Join(t.TempDir(), "logs"), service: "demo", hashes: new(filehash.Cache)}
			r := j.serve(context.Background(), p, lent{}, conn, false, first, &taken)
			defer r.open.release()
			if !errors.Is(r.err, errReclaimed) || r.answered {
				t.Errorf("got %+v", r)
			}
			_ = conn.Close()
			if got, err := io.ReadAll(client); len(got) > 0 || err != nil {
				t.Errorf("the client got %q, %v", got, err)
			}
		})
	}
}
