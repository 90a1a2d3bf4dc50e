package auth

import (
	"context"
	"fmt"
	"io"
	"log/slog"
)

// A Store resolves the hash of a presented key. It is all that an
// [Authenticator] needs. It must be safe for concurrent use.
//
// A keyring.MemoryStore is a Store, and so are those of the modules cache and
// sqlstore. Package authtest has a test suite for your own.
type Store interface {
	// Lookup returns the record with that hash, in any state: an
	// Authenticator decides by Record.Check. Neither the caller nor the store
	// may modify the record afterwards.
	//
	// If there is no such record, the error matches ErrNotFound. Any other
	// error means "unknown" and is answered with 503. Lookup returns soon after
	// ctx is done.
	Lookup(ctx context.Context, hash Hash) (*Record, error)
}

// A Watcher is a Store that reports changes of its records, so that a cache can
// discard its copies.
type Watcher interface {
	Store

	// Watch calls notify with each change until ctx is done, and then returns
	// the error of ctx. It reconnects by itself, and returns earlier only if
	// watching is impossible.
	//
	// The first change is WatchStarted. From there to the next WatchLost,
	// every change that decides a request (insertion, deletion, revocation,
	// disabling, expiry, scopes, hash, owner) is reported after it is
	// committed. A change made through this very Store is reported before the
	// call that made it returns. A new last use is not reported.
	//
	// Watch may be called any number of times. It may call notify from several
	// goroutines at once and in the middle of a change, so notify must return
	// soon and must not call the Store.
	Watch(ctx context.Context, notify func(Change)) error
}

// A Change is what a [Watcher] reports.
type Change struct {
	Kind ChangeKind
	Hash Hash `json:"-"` // of the record, for RecordChanged
}

// String returns the Kind. It leaves the Hash out.
func (c Change) String() string { return c.Kind.String() }

// Format writes what String returns, for every verb but %p, %T and %w, which
// package fmt does not pass on.
func (c Change) Format(f fmt.State, verb rune) { io.WriteString(f, c.String()) }

// LogValue returns the Kind and the first digits of the Hash.
func (c Change) LogValue() slog.Value {
	return slog.GroupValue(slog.String("kind", c.Kind.String()), slog.Any("hash", c.Hash.LogValue()))
}

// A ChangeKind is the kind of a [Change].
type ChangeKind int

const (
	// RecordChanged: the record with the hash was inserted, changed or deleted.
	// Discard any copy of it.
	RecordChanged ChangeKind = iota + 1

	// WatchStarted: changes are reported from now on. Discard all copies.
	WatchStarted

	// WatchLost: changes are not reported until the next WatchStarted.
	WatchLost
)

// String returns the name of the constant.
func (k ChangeKind) String() string {
	switch k {
	case RecordChanged:
		return "RecordChanged"
	case WatchStarted:
		return "WatchStarted"
	case WatchLost:
		return "WatchLost"
	}
	return fmt.Sprintf("ChangeKind(%d)", int(k))
}
