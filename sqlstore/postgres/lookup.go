package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/insigner/auth"
)

// grace is how long a query continues that nobody waits for. A query that is
// canceled costs its connection, and most queries are about to end.
const grace = time.Second

// An answer is that of a lookup.
type answer struct {
	record   *auth.Record
	err      error
	panicked any
}

// Lookup implements [auth.Store]. It takes one round trip, once the connection
// has prepared the statement. A row that cannot be read is a
// [*keyring.RecordError].
//
// At most Options.MaxLookups are in progress. Lookup returns as soon as ctx is
// done. If its query runs then, it may continue for a second, so that a client
// that leaves does not cost a connection.
func (s *Store) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: lookup: %w", dialect.Package, err)
	}
	select {
	case s.places <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: lookup: waiting for one of %d: %w", dialect.Package, cap(s.places), ctx.Err())
	}
	if ctx.Done() == nil {
		defer func() { <-s.places }()
		return s.keys.Lookup(ctx, hash)
	}
	query, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan answer, 1)
	go func() {
		a := answer{err: errors.New("the driver ended the goroutine")} // unless it returns or panics
		defer func() {
			a.panicked = recover()
			cancel()
			<-s.places
			done <- a
		}()
		a.record, a.err = s.keys.Lookup(query, hash)
	}()
	select {
	case a := <-done:
		if a.panicked != nil {
			panic(a.panicked) // on the goroutine of the request, where the host can recover from it
		}
		return a.record, a.err
	case <-ctx.Done():
		time.AfterFunc(grace, cancel)
		return nil, fmt.Errorf("%s: lookup: %w", dialect.Package, ctx.Err())
	}
}
