package fanout

import "time"

// SetWall sets how the clock on the wall is read, until the returned function is
// called.
func SetWall(f func(time.Time) time.Time) (undo func()) {
	old := wall
	wall = f
	return func() { wall = old }
}
