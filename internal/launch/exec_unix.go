//go:build unix

package launch

// descriptors are those of a program that the connection becomes.
func (p Place) descriptors() []int {
	if p == Stdio {
		return []int{0, 1}
	}
	return []int{firstInherited}
}
