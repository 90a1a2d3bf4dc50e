package sqlite

import (
	"context"
	"sync"
)

// A turn lets one writer at a time pass, in the order in which they came.
type turn chan struct{}

// turns holds the turn of each SQLite file that this process has opened.
//
// SQLite itself lets a writer try again and again for the busy_timeout. That is
// not fair, so under load a writer fails with SQLITE_BUSY. The writers of this
// process wait for each other here, also those of several pools.
var turns sync.Map // of turn, by path

// turnOf returns the turn of the file path.
func turnOf(path string) turn {
	t, _ := turns.LoadOrStore(path, make(turn, 1))
	return t.(turn)
}

// wait waits for the turn and returns how to end it. Its error is that of ctx.
func (t turn) wait(ctx context.Context) (end func(), err error) {
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
