//go:build linux || darwin

package endpoint

import "sync"

// once keeps the first successful result of a lookup whose answer can't change
// while the process runs. Safe for concurrent use; the zero value is ready.
type once struct {
	mu    sync.Mutex
	known bool
	value string
}

func (o *once) get(lookup func() (string, error)) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known {
		return o.value, nil
	}
	v, err := lookup()
	if err != nil {
		return "", err
	}
	o.value, o.known = v, true
	return v, nil
}
