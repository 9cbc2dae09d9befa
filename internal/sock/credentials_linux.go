package sock

import (
	"fmt"

	"github.com/seed-7265657e/usher/internal/sock/rawsys"
)

func peerOf(fd int) (Credentials, error) {
	cred, err := rawsys.PeerCred(fd)
	if err != nil {
		return Credentials{}, fmt.Errorf("read peer credentials: %w", err)
	}
	return Credentials{UID: cred.Uid, PID: int(cred.Pid)}, nil
}
