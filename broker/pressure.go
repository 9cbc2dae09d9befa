package broker

import (
	"errors"
	"syscall"

	"github.com/seed-7265657e/usher/internal/errno"
)

// pressure is the broker's state of descriptor shortage (spec 03 §13).
//
//	normal ──accept or open: EMFILE, ENFILE──▶ demoted ──3 accepts in a row──▶ normal
//
// While demoted, Hellos are refused with FD_PRESSURE; admin requests are served.
type pressure struct {
	demoted bool
	streak  int
}

// recoveryAccepts is how many accepts in a row end the demotion; the last of them
// is served already.
const recoveryAccepts = 3

// failed notes a failed accept or open and reports whether it was for want of
// descriptors.
func (p *pressure) failed(err error) bool {
	shortage := noDescriptor(err)
	p.demote(shortage)
	return shortage
}

// demote begins the demotion anew if there is a shortage.
func (p *pressure) demote(shortage bool) {
	if shortage {
		p.demoted, p.streak = true, 0
	}
}

// accepted notes a successful accept and reports whether the broker is still
// demoted.
func (p *pressure) accepted() bool {
	if p.demoted {
		if p.streak++; p.streak >= recoveryAccepts {
			p.demoted = false
		}
	}
	return p.demoted
}

// noDescriptor reports whether err says that the process, or the system, has no
// descriptor left.
func noDescriptor(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, errno.ENFILE)
}
