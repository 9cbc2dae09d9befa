package sock

import "sync"

// serving are the serving ends of pipes that this package has open in this process, by their
// numbers: none of them is what a peer may offer by such a number. Any goroutine may use it.
var serving = handleSet{all: make(map[int]int)}

type handleSet struct {
	mu  sync.Mutex  // held while a handle is closed: its number may be another's at once
	all map[int]int // how often each is known: a number that was offered may become one's own
}

// add notes fd, which is open.
func (s *handleSet) add(fd int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[fd]++
}

// take notes fd, where it is not known; else it is false.
func (s *handleSet) take(fd int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[fd] > 0 {
		return false
	}
	s.all[fd] = 1
	return true
}

// drop takes back what add or take has noted.
func (s *handleSet) drop(fd int) { s.end(fd, func() {}) }

// end closes fd and takes back what was noted, if anything was.
func (s *handleSet) end(fd int, closeIt func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	closeIt()
	if s.all[fd]--; s.all[fd] <= 0 {
		delete(s.all, fd)
	}
}
