package authtest_test

import (
	"context"
	"sync"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// A lender hands out copies, and writes to them when a record is deleted.
type lender struct {
	mu  sync.Mutex
	out []*auth.Record
}

func (l *lender) lend(r *auth.Record, err error) (*auth.Record, error) {
	if err != nil {
		return r, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := r.Clone()
	l.out = append(l.out, c)
	return c, nil
}

// lending breaks a store that writes to what it has handed out.
func lending(f func(t *table, l *lender), spoil func(r *auth.Record)) func(t *table) {
	return func(t *table) {
		l := new(lender)
		t.onDelete = func(_ context.Context, id, by string) error {
			l.mu.Lock()
			for _, r := range l.out {
				spoil(r)
			}
			l.mu.Unlock()
			return t.delete(id, by)
		}
		f(t, l)
	}
}

func setName(r *auth.Record)   { r.Name = "deleted" }
func setScope(r *auth.Record)  { r.Scopes[0] = "*" }
func setNumber(r *auth.Record) { r.Metadata["number"] = "0" }

func lendLookup(t *table, l *lender) {
	t.onLookup = func(_ context.Context, hash auth.Hash) (*auth.Record, error) { return l.lend(t.lookup(hash)) }
}

func lendGet(t *table, l *lender) {
	t.onGet = func(_ context.Context, id string) (*auth.Record, error) { return l.lend(t.get(id)) }
}

func lendList(t *table, l *lender) {
	t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
		page, err := t.list(q)
		for i, r := range page {
			page[i], _ = l.lend(r, nil)
		}
		return page, err
	}
}

var sharingFaults = []fault{
	{"a change writes to what Lookup returned", "What Lookup returned stays", true, lending(lendLookup, setName)},
	{"a change writes to scopes that Lookup returned", "What Lookup returned stays", true, lending(lendLookup, setScope)},
	{"a change writes to the metadata that Get returned", "What Get returned stays", true, lending(lendGet, setNumber)},
	{"a change writes to what List returned", "What List returned stays", true, lending(lendList, setName)},
	{"List returns one slice again and again", "What List returned stays", true, func(t *table) {
		buffers := make(map[int][]*auth.Record)
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			page, err := t.list(q)
			if q.Limit == 6 {
				buffers[6] = append(buffers[6][:0], page...)
				page = buffers[6]
			}
			return page, err
		}
	}},
}
