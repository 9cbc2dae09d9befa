//go:build !windows

package sock

// GivenTo does nothing: a descriptor that is sent on a channel is for whoever has the other
// end.
func (f *FD) GivenTo(int) error { return nil }

// HeldBy does nothing, for the same reason.
func (c *Channel) HeldBy(int) error { return nil }
