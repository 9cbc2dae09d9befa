package peer

import (
	"fmt"

	"github.com/seed-7265657e/usher/internal/rawsys"
)

// Of returns the credentials of the process at the other end of socket fd
// (SO_PEERCRED). The pid is the connector's at the time it connected; the
// process may be gone by now, see OpenProcess.
func Of(fd int) (Credentials, error) {
	cred, err := rawsys.PeerCred(fd)
	if err != nil {
		return Credentials{}, fmt.Errorf("read peer credentials: %w", err)
	}
	return Credentials{UID: cred.Uid, PID: int(cred.Pid)}, nil
}
