package world

// Held is what a process has open.
type Held struct {
	Descriptors int
	// events may be the program's, as its claims are on Windows, or its runtime's, of which
	// there are spare at most. There are none elsewhere.
	events, spare int
}

// Least is the lesser of both, for each kind.
func (h Held) Least(other Held) Held {
	return Held{min(h.Descriptors, other.Descriptors), min(h.events, other.events), min(h.spare, other.spare)}
}

// Beyond is how many there certainly are beyond base.
func (h Held) Beyond(base Held) int {
	return max(h.Descriptors-base.Descriptors, 0) + max(h.events-base.events-h.spare, 0)
}
