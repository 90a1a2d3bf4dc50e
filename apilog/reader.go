package apilog

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"
)

// ReadTimeout is the longest time for which a read may keep a database busy.
// [Reader] ends each of its reads then, and the stores of module sqlstore theirs.
const ReadTimeout = 3 * time.Second

const maxLimit = 1000 // of a list of a Reader

// A Reader is how pages and endpoints read: all entries, or those of one owner.
// There is no way to a Reader that does not say which. The zero Reader returns
// no entries and no error.
type Reader struct {
	store Store
	owner string
	all   bool
}

// For returns a Reader of the entries of owner. It finds nothing else, even if
// the query names another owner or another's key. If owner is empty, it returns
// no entries and no error. It panics if the store is nil.
func For(store Store, owner string) *Reader {
	mustHave("apilog.For", store)
	return &Reader{store: store, owner: owner}
}

// All returns a Reader of the entries of every owner, for staff. It panics if
// the store is nil.
func All(store Store) *Reader {
	mustHave("apilog.All", store)
	return &Reader{store: store, all: true}
}

// List returns the entries that q selects, newest first. If q.Limit is 0 or
// less, it is [DefaultLimit], and never more than 1,000. The error matches
// [ErrInvalidQuery] if q.After is not the ID of an entry. It takes at most
// [ReadTimeout].
func (r *Reader) List(ctx context.Context, q Query) ([]Entry, error) {
	if !r.confine(&q) {
		return nil, nil
	}
	if !storable(q.After) {
		return nil, fmt.Errorf("%w: After is not the ID of an entry", ErrInvalidQuery)
	}
	if q.Limit <= 0 {
		q.Limit = DefaultLimit
	}
	q.Limit = min(q.Limit, maxLimit)
	ctx, cancel := context.WithTimeout(ctx, ReadTimeout)
	defer cancel()
	entries, err := r.store.List(ctx, q)
	if err != nil {
		return nil, err
	}
	if r.all {
		return entries, nil
	}
	own := entries[:0:0]
	for _, e := range entries {
		if e.Owner == r.owner { // also if the store ignores q.Owner
			own = append(own, e)
		}
	}
	return own, nil
}

// Histogram counts the entries that q selects, in steps from q.From until q.To,
// oldest first, empty buckets included. If q.To is zero, it is now. It returns
// the errors of [Buckets], and takes at most [ReadTimeout].
func (r *Reader) Histogram(ctx context.Context, q Query, step time.Duration) ([]Bucket, error) {
	if q.To.IsZero() {
		q.To = time.Now()
	}
	buckets, err := Buckets(q, step)
	if err != nil {
		return nil, err
	}
	if !r.confine(&q) {
		return buckets, nil
	}
	ctx, cancel := context.WithTimeout(ctx, ReadTimeout)
	defer cancel()
	return r.store.Histogram(ctx, q, step)
}

// confine restricts q to what r may read, and gives it the form of entries. It
// reports whether there can be any.
func (r *Reader) confine(q *Query) bool {
	if !r.all {
		if r.owner == "" || q.Owner != "" && q.Owner != r.owner {
			return false
		}
		q.Owner = r.owner
	}
	q.RemoteAddr = q.RemoteAddr.Unmap().WithZone("")
	for _, text := range []string{q.Owner, q.KeyID, q.Method, q.Route, q.Code, q.RequestID} {
		if !storable(text) {
			return false
		}
	}
	return true
}

// storable reports whether an entry can have such a text. Some databases return
// an error for a query with another one.
func storable(text string) bool { return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 }

func mustHave(call string, store Store) {
	if store == nil {
		panic(call + ": the store is nil")
	}
	if v := reflect.ValueOf(store); v.Kind() == reflect.Pointer && v.IsNil() {
		panic(fmt.Sprintf("%s: the store is a nil %T", call, store))
	}
}
