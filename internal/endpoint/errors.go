package endpoint

import (
	"errors"
	"fmt"

	"github.com/seed-7265657e/usher/internal/sock"
)

// ErrReplaced reports that the socket file of a Binding was removed or replaced:
// new clients no longer reach this process.
var ErrReplaced = errors.New("the socket file was removed or replaced by another process")

// ErrWithdrawn says that the broker whose place a process was to take has kept it.
var ErrWithdrawn = errors.New("the other broker has kept its place")

// PathTooLongError reports a socket path that the operating system can't bind.
// Lengths are in bytes.
type PathTooLongError struct {
	Path  string
	Len   int
	Max   int
	Label string // which limit, for example "Linux sun_path"
	Hint  string // what to change
}

func (e *PathTooLongError) Error() string {
	return fmt.Sprintf("socket path %s is %d bytes; at most %d fit (%s): %s", e.Path, e.Len, e.Max, e.Label, e.Hint)
}

// InvalidInstanceError reports a text that names no broker instance.
type InvalidInstanceError struct {
	ID string
}

func (e *InvalidInstanceError) Error() string {
	return fmt.Sprintf("%q names no broker instance: use shared, private:SERVICE or explicit:NAME", e.ID)
}

// InUseError reports that a live process already owns the path.
type InUseError struct {
	Path string
	PID  int // 0 when the owner did not say who it is
}

func (e *InUseError) Error() string {
	owner := "another process"
	if e.PID != 0 {
		owner = fmt.Sprintf("a process (pid %d)", e.PID)
	}
	return fmt.Sprintf("%s already serves %s: use it, stop it first, or choose another socket", owner, e.Path)
}

// ForeignListenerError reports that another user serves the socket. Nothing was
// sent to it.
type ForeignListenerError struct {
	Path string
	UID  uint32 // who listens; sock.OverflowUID when the kernel can't name the user
}

func (e *ForeignListenerError) Error() string {
	if e.UID == sock.OverflowUID {
		return fmt.Sprintf("%s is served by a user whom the kernel can't name (uid %d), so it is not trusted: "+
			"run both sides in one user namespace, as a user other than uid %d", e.Path, e.UID, e.UID)
	}
	return fmt.Sprintf("%s is served by another user (uid %d), so it is not trusted: "+
		"set XDG_RUNTIME_DIR to a directory of your own, or name the socket of a process that runs as you", e.Path, e.UID)
}

// OtherListenerError reports that another process than the one that named a
// socket listens there.
type OtherListenerError struct {
	Path      string
	PID, Want int // PID is 0 when the listener is not visible here
}

func (e *OtherListenerError) Error() string {
	return fmt.Sprintf("%s is served by process %d, not by process %d, which named it: name a socket that the process which registers has called listen on", e.Path, e.PID, e.Want)
}

// ErrUnnamedUser reports that this process runs as the user id that stands for
// everybody unknown: it could not tell its own clients from strangers.
var ErrUnnamedUser = fmt.Errorf("user id %d is what the kernel reports for users it can't name, so it is nobody's identity: run as another user", sock.OverflowUID)

// LockRefusedError reports that the system locks no file here. Without the lock two
// processes could own one socket, so none does.
type LockRefusedError struct {
	Path string
	Err  error
}

func (e *LockRefusedError) Error() string {
	return fmt.Sprintf("%s can't be locked (flock: %v), and without the lock two processes could serve one socket: "+
		"allow flock(2) if a filter (seccomp) forbids it, or put the socket on a local file system", e.Path, e.Err)
}

// Unwrap returns the system's word.
func (e *LockRefusedError) Unwrap() error { return e.Err }

// NotSocketError reports that something other than a socket stands at the path.
// It is never removed.
type NotSocketError struct {
	Path string
	Kind string // for example "regular file"
}

func (e *NotSocketError) Error() string {
	return fmt.Sprintf("%s is a %s, not a socket: move it away or choose another socket path", e.Path, e.Kind)
}

// InsecureDirError reports a directory that others can change or read, or that
// belongs to someone else. It is never repaired on a read or before a bind.
type InsecureDirError struct {
	Path   string
	Reason string
	Fix    string

	foreign bool // another user's
}

func (e *InsecureDirError) Error() string {
	return fmt.Sprintf("directory %s %s: %s", e.Path, e.Reason, e.Fix)
}
