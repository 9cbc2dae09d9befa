package registry_test

import (
	"slices"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/registry"
)

type entry = registry.Entry[string]

var epoch = time.Unix(1_700_000_000, 0)

var key = registry.Key{Instance: "i", Service: "svc", Version: "1.0.0"}

func backend(k registry.Key, handle string) *entry {
	return &entry{Key: k, Handle: handle, Since: epoch}
}

func anyOne(*entry) bool { return true }

func handles(entries []*entry) (names []string) {
	for _, e := range entries {
		names = append(names, e.Handle)
	}
	return names
}

func TestFindTakesTheNewestThatFits(t *testing.T) {
	var r registry.Registry[string]
	if r.Find(key, anyOne) != nil || r.Len() != 0 || len(r.All()) != 0 {
		t.Error("the zero value is not empty")
	}
	first, second, third := backend(key, "1"), backend(key, "2"), backend(key, "3")
	other := backend(registry.Key{Instance: "i", Service: "svc", Version: "2.0.0"}, "other")
	for _, e := range []*entry{first, second, third, other} {
		r.Add(e)
	}
	var seen []string
	got := r.Find(key, func(e *entry) bool {
		seen = append(seen, e.Handle)
		return e != third && e != second // as a caller excludes those it has tried
	})
	if got != first || !slices.Equal(seen, []string{"3", "2", "1"}) {
		t.Errorf("found %v after looking at %v", got, seen)
	}
	if got := r.Find(key, func(*entry) bool { return false }); got != nil {
		t.Errorf("found %v that does not fit", got)
	}
	for _, near := range []registry.Key{
		{Instance: "j", Service: "svc", Version: "1.0.0"},
		{Instance: "i", Service: "svc2", Version: "1.0.0"},
		{Instance: "i", Service: "svc", Version: "1.0.1"},
	} {
		if got := r.Find(near, anyOne); got != nil {
			t.Errorf("%+v found %v", near, got)
		}
	}
}

func TestRemove(t *testing.T) {
	var r registry.Registry[string]
	entries := []*entry{backend(key, "1"), backend(key, "2"), backend(key, "3")}
	for _, e := range entries {
		r.Add(e)
	}
	if r.Remove(backend(key, "2")) {
		t.Error("a stranger of the same key was removed")
	}
	for i, at := range []int{1, 2, 0} {
		if !r.Remove(entries[at]) || r.Remove(entries[at]) || r.Len() != 2-i {
			t.Errorf("removing %s: %d are left", entries[at].Handle, r.Len())
		}
	}
	if r.Find(key, anyOne) != nil {
		t.Error("a removed entry was found")
	}
	r.Add(entries[0])
	if r.Find(key, anyOne) != entries[0] {
		t.Error("an entry can't come back")
	}
}

func TestAllIsOrdered(t *testing.T) {
	var r registry.Registry[string]
	add := func(instance, service, version string, since int, handle string) {
		e := backend(registry.Key{Instance: instance, Service: service, Version: version}, handle)
		e.Since = epoch.Add(time.Duration(since))
		r.Add(e)
	}
	add("i", "b", "1.0.0", 0, "6")
	add("j", "a", "1.0.0", 7, "3")
	add("i", "a", "2.0.0", 0, "5")
	add("i", "a", "1.0.0", 7, "2")
	add("k", "a", "1.0.0", 7, "4 first")
	add("k", "a", "1.0.0", 7, "4 second")
	add("k", "a", "1.0.0", 3, "1")
	want := []string{"1", "2", "3", "4 first", "4 second", "5", "6"}
	for range 20 { // maps have no order
		if got := handles(r.All()); !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}
