package service

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// CheckVersion applies the version policy to a wanted version that is valid
// (spec 03 §7): the floor first, then the allow list.
// Errors: ErrBelowMinVersion, ErrOutsideAllowList.
func (d *Definition) CheckVersion(wanted string) error {
	if floor := d.MinVersion; floor != "" && below(wanted, floor) {
		return ErrBelowMinVersion
	}
	if list := d.VersionAllowList; len(list) > 0 && !slices.Contains(list, wanted) {
		return ErrOutsideAllowList
	}
	return nil
}

// CheckUsable judges the versions inside the definition, which Load leaves
// unjudged in a .servicedef.v2 file. The error is the {error} of spec 01 §7.1,
// row 31. Errors: *names.InvalidError.
func (d *Definition) CheckUsable() error { return checkVersions(d.ServiceDefinition) }

// below compares MAJOR, MINOR and PATCH as numbers and ignores the prerelease. A
// version that does not fit 64 bits is below nothing: v1 drops the floor then.
func below(wanted, floor string) bool {
	a, okA := core(wanted)
	b, okB := core(floor)
	if !okA || !okB {
		return false
	}
	return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]), cmp.Compare(a[2], b[2])) < 0
}

func core(version string) (numbers [3]uint64, ok bool) {
	version, _, _ = strings.Cut(version, "-")
	parts := strings.Split(version, ".")
	if len(parts) != len(numbers) {
		return numbers, false
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 64)
		if err != nil {
			return numbers, false
		}
		numbers[i] = n
	}
	return numbers, true
}
