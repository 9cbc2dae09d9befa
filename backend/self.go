package backend

import (
	"os"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/identity"
	"github.com/seed-7265657e/usher/internal/wire"
)

// self answers identity probes on the backend's pipe (spec 01 §11).
type self struct {
	namespace string
	pipe      func() string
}

func newSelf(pipe func() string) *self {
	namespace := os.Getenv(endpoint.NamespaceVariable)
	if namespace == "" {
		namespace = "shared"
	}
	return &self{namespace: namespace, pipe: pipe}
}

func (s *self) answer(f *wire.Frame) ([]byte, error) {
	process, legacy, err := identity.Self(s.namespace, s.pipe())
	if err != nil {
		return nil, err
	}
	reply, err := identity.AnswerProbe(f, process, legacy)
	if err != nil {
		return nil, err
	}
	return frame.Append(nil, reply)
}
