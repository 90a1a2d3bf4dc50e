package dashboard

import "sync"

// The most that one owner, or one of the staff, makes the log store do at a time.
const (
	maxCharts    = 2
	maxDownloads = 1
)

// Slots count what is being done for whom.
type slots struct {
	mu    sync.Mutex
	taken map[string]int
}

// take takes a slot, unless all are taken.
func (s *slots) take(who string, most int) (giveBack func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken[who] >= most {
		return nil, false
	}
	s.taken[who]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.taken[who]--; s.taken[who] == 0 {
			delete(s.taken, who)
		}
	}, true
}

// slot takes a slot for the owner of the call, or for the member of the staff.
func (c *call) slot(what string, most int) (giveBack func(), ok bool) {
	who := what + " owner " + c.viewer.Owner
	if c.viewer.Staff {
		who = what + " staff " + c.viewer.Name
	}
	return c.slots.take(who, most)
}
