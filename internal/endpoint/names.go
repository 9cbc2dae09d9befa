package endpoint

import (
	"encoding/hex"
	"strings"

	"github.com/seed-7265657e/usher/internal/names"
)

// leafPrefix starts every socket name of the v1 protocol.
const leafPrefix = "rpb-v1-"

// Instance names one broker of a user. The zero value is the shared broker.
// Values are comparable.
type Instance struct {
	kind instanceKind
	name string // service or explicit name; empty for the shared broker
}

type instanceKind uint8

const (
	sharedInstance instanceKind = iota
	privateInstance
	explicitInstance
)

// Shared is the broker that serves all services of a user.
func Shared() Instance { return Instance{} }

// Private is the broker that serves one service only.
func Private(service string) (Instance, error) {
	if err := names.ServiceName(service); err != nil {
		return Instance{}, err
	}
	return Instance{kind: privateInstance, name: service}, nil
}

// Explicit is a broker with a name of its own.
func Explicit(name string) (Instance, error) {
	if err := names.ServiceName(name); err != nil {
		return Instance{}, err
	}
	return Instance{kind: explicitInstance, name: name}, nil
}

// ParseInstance reads what String writes: "shared", "private:SERVICE" or
// "explicit:NAME". Errors: *InvalidInstanceError, *names.InvalidError.
func ParseInstance(id string) (Instance, error) {
	if id == "shared" {
		return Shared(), nil
	}
	switch kind, name, _ := strings.Cut(id, ":"); kind {
	case "private":
		return Private(name)
	case "explicit":
		return Explicit(name)
	}
	return Instance{}, &InvalidInstanceError{ID: id}
}

// String is the instance id of spec 03 §1.
func (i Instance) String() string {
	switch i.kind {
	case privateInstance:
		return "private:" + i.name
	case explicitInstance:
		return "explicit:" + i.name
	}
	return "shared"
}

// Leaf is the last element of the instance's socket path, for a user hash.
func (i Instance) Leaf(hash string) (string, error) {
	if err := names.UserHash(hash); err != nil {
		return "", err
	}
	switch i.kind {
	case privateInstance:
		return leafPrefix + hash + "-svc-" + i.name, nil
	case explicitInstance:
		return leafPrefix + hash + "-inst-" + i.name, nil
	}
	return leafPrefix + hash + "-shared", nil
}

// SocketPath derives the instance's socket path for the calling user. It touches
// no file but the machine's identity. Errors: *PathTooLongError.
func (i Instance) SocketPath() (string, error) {
	hash, err := UserHash()
	if err != nil {
		return "", err
	}
	leaf, err := i.Leaf(hash)
	if err != nil {
		return "", err
	}
	return SocketPath(leaf)
}

// BackendLeaf is the name of a backend's own socket; random makes it unique.
func BackendLeaf(hash string, random [16]byte) (string, error) {
	if err := names.UserHash(hash); err != nil {
		return "", err
	}
	return leafPrefix + hash + "-be-" + hex.EncodeToString(random[:]), nil
}
