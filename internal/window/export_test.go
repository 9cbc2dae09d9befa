package window

// Keys is of how many keys a window is held.
func (c *Counter[K]) Keys() int { return len(c.known) }
