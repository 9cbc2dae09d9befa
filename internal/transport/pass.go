package transport

import (
	"errors"
	"fmt"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/sock"
)

// Passed is a channel on its way from the broker that had it to the one that goes on with it.
// What either of them has said on it stays said: so a channel is passed only while no attempt
// is pending on it, and no claim of it is open, and an answer that comes later than its
// attempt's end finds nobody in the second broker either.
type Passed struct {
	// Conn is the channel itself, of the side that gives it away.
	Conn sock.Lender
	// Page is its page of claims, which whoever gets it owns; nil without one.
	Page *sock.FD
	// Generation is the highest that a claim in the page has had.
	Generation uint64
	// Numbered is the highest number that an attempt has had.
	Numbered uint64
	// PID is the process at the other end, of which who resumes the channel has a handle.
	PID int
}

// Pass returns what another broker resumes the channel from. Behind it nothing is to be sent
// or read here; the caller takes the channel out of its loop before, and calls Retire behind
// it: the peer sees no end while the other broker has the channel. It fails while anything is
// under way.
func (c *Channel) Pass() (p Passed, err error) {
	if len(c.table.On(c)) > 0 {
		return p, errors.New("a handoff is under way on the channel")
	}
	if !c.conn.Whole() {
		return p, errors.New("a message is under way on the channel")
	}
	p = Passed{Conn: c.conn, Numbered: c.table.Numbered()}
	if c.page != nil {
		p.Page, p.Generation, err = c.page.Pass()
	}
	return p, err
}

// maxNumbered leaves room for the attempts of many years.
const maxNumbered = 1 << 60

// Resume makes a channel, for the attempts of table, of what another broker has passed: conn
// is its Conn. It owns conn and p.Page.
func Resume(conn *sock.FD, p Passed, table *handoff.Table) (*Channel, error) {
	c := newChannel(sock.NewChannel(conn), table)
	err := error(nil)
	if p.Page != nil {
		c.page, err = claim.ResumePage(p.Page, p.Generation)
	}
	if err == nil {
		err = c.conn.HeldBy(p.PID)
	}
	if err == nil && p.Numbered > maxNumbered {
		err = fmt.Errorf("a handoff with number %d", p.Numbered)
	}
	if err != nil {
		c.Retire()
		return nil, err
	}
	table.NumberAbove(p.Numbered)
	return c, nil
}
