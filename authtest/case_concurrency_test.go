package authtest_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// moment is what a store takes between a look at a row and its change. In a
// bubble, all calls at the same time look before one of them changes anything.
const moment = time.Millisecond

// lookFirst breaks Update: it compares the revision first, and writes later,
// without another look.
func lookFirst(when func(successor *auth.Record) bool) func(t *table) {
	return func(t *table) {
		t.onUpdate = func(_ context.Context, r, successor *auth.Record) error {
			if !when(successor) {
				return t.update(r, successor)
			}
			old, err := t.get(r.ID)
			if err != nil {
				return err
			}
			if old.Revision != r.Revision-1 {
				return keyring.ErrConflict
			}
			time.Sleep(moment)
			if _, err := t.get(r.ID); err != nil {
				return err
			}
			if successor != nil {
				t.mu.Lock()
				err := t.free(successor)
				t.mu.Unlock()
				if err != nil {
					return err
				}
			}
			_, err = forced(t, r, successor)
			return err
		}
	}
}

// slowly makes changes take half a moment: they come after what another call
// has looked at, and before what it changes.
func slowly(t *table) {
	t.onUpdate = func(_ context.Context, r, successor *auth.Record) error {
		time.Sleep(moment / 2)
		return t.update(r, successor)
	}
	t.onDelete = func(_ context.Context, id, by string) error {
		time.Sleep(moment / 2)
		return t.delete(id, by)
	}
	t.onTouch = func(_ context.Context, lastUsed map[string]time.Time) error {
		time.Sleep(moment / 2)
		return t.touch(lastUsed)
	}
}

// insertFirst breaks Insert: it looks whether something is taken first, and
// adds later.
func insertFirst(same func(a, b *auth.Record) bool) func(t *table) {
	return func(t *table) {
		t.onInsert = func(_ context.Context, r *auth.Record) error {
			if _, err := t.find(func(old *auth.Record) bool { return same(old, r) }); err == nil {
				return keyring.ErrExists
			}
			time.Sleep(moment)
			t.mu.Lock()
			rows := t.rows
			t.rows = slices.DeleteFunc(slices.Clone(rows), func(old *auth.Record) bool { return same(old, r) })
			err := t.free(r)
			t.rows = rows
			if err == nil {
				err = t.add(r)
			}
			t.mu.Unlock()
			if err == nil {
				t.report(nil, r)
			}
			return err
		}
	}
}

// failingTogether breaks Update: it fails if another call is in progress.
func failingTogether(when func(r, successor *auth.Record) bool) func(t *table) {
	return func(t *table) {
		var busy atomic.Int64
		t.onUpdate = func(_ context.Context, r, successor *auth.Record) error {
			if !when(r, successor) {
				return t.update(r, successor)
			}
			defer busy.Add(-1)
			n := busy.Add(1)
			time.Sleep(moment)
			if n > 1 {
				return errors.New("could not serialize access")
			}
			return t.update(r, successor)
		}
	}
}

var concurrencyFaults = []fault{
	{"Insert looks whether the ID is taken, and adds later", "Insert of one ID at the same time", true, insertFirst(
		func(a, b *auth.Record) bool { return a.ID == b.ID })},
	{"Insert looks whether the hash is taken, and adds later", "Insert of one hash at the same time", true, insertFirst(
		func(a, b *auth.Record) bool { return a.Hash == b.Hash })},
	{"Update compares the revision, and writes later", "Update of one revision at the same time", true, lookFirst(
		func(successor *auth.Record) bool { return successor == nil })},
	{"Update fails while another one is in progress", "Update of one revision at the same time", false, failingTogether(
		func(*auth.Record, *auth.Record) bool { return true })},
	{"Update compares the revision, and rotates later", "Update with successors at the same time", true, lookFirst(
		func(successor *auth.Record) bool { return successor != nil })},
	{"Update looks whether the hash of the successor is taken, and adds it later",
		"Update with one successor hash at the same time", true, func(t *table) {
			t.onUpdate = func(_ context.Context, r, successor *auth.Record) error {
				if successor == nil {
					return t.update(r, nil)
				}
				if _, err := t.lookup(successor.Hash); err == nil {
					return t.update(r, successor)
				}
				time.Sleep(moment)
				if _, err := t.lookup(successor.Hash); err != nil {
					return t.update(r, successor)
				}
				err := t.update(r, nil)
				if err == nil {
					t.addAnyway(successor)
				}
				return err
			}
		}},
	{"late revisions cannot be written at the same time", "Update of many records at the same time", true, failingTogether(
		func(r, successor *auth.Record) bool { return successor == nil && r.Revision > 8 })},
	{"Update inserts the successor though the record was deleted", "Update and Delete at the same time", true,
		func(t *table) {
			slowly(t)
			t.onUpdate = func(_ context.Context, r, successor *auth.Record) error {
				_, before := t.get(r.ID)
				time.Sleep(moment)
				err := t.update(r, successor)
				if before == nil && errors.Is(err, auth.ErrNotFound) && successor != nil {
					t.insert(successor)
				}
				return err
			}
		}},
	{"Update of a record that was deleted on the way succeeds", "Update and Delete at the same time", true,
		func(t *table) {
			slowly(t)
			t.onUpdate = func(_ context.Context, r, successor *auth.Record) error {
				_, before := t.get(r.ID)
				time.Sleep(moment)
				err := t.update(r, successor)
				if before == nil && errors.Is(err, auth.ErrNotFound) {
					return nil
				}
				return err
			}
		}},
	{"Touch writes back what it has read", "Touch and Update at the same time", true, func(t *table) {
		slowly(t)
		t.onTouch = func(_ context.Context, lastUsed map[string]time.Time) error {
			read := make(map[string]*auth.Record)
			for id := range lastUsed {
				read[id], _ = t.get(id)
			}
			time.Sleep(moment)
			t.touchRows(lastUsed, func(r *auth.Record, at time.Time) {
				if read[r.ID] == nil {
					return
				}
				at = latest(at, r.LastUsedAt)
				*r = *read[r.ID].Clone()
				forward(r, at)
			})
			return nil
		}
	}},
	{"Update writes back the last use that it has read", "Touch and Update at the same time", true, func(t *table) {
		slowly(t)
		t.onUpdate = func(_ context.Context, r, successor *auth.Record) error {
			read, err := t.get(r.ID)
			if err != nil {
				return err
			}
			time.Sleep(moment)
			err = t.update(r, successor)
			if err == nil {
				t.changeRows(func(row *auth.Record) bool { return row.ID == r.ID },
					func(row *auth.Record) { row.LastUsedAt = read.LastUsedAt })
			}
			return err
		}
	}},
	{"Touch locks rows in the order of a map", "Touch at the same time", true, func(t *table) {
		var busy atomic.Int64
		t.onTouch = func(_ context.Context, lastUsed map[string]time.Time) error {
			if len(lastUsed) < 2 {
				return t.touch(lastUsed)
			}
			defer busy.Add(-1)
			n := busy.Add(1)
			time.Sleep(moment)
			if n > 1 {
				return errors.New("deadlock detected")
			}
			return t.touch(lastUsed)
		}
	}},
	{"Touch looks which time is later, and writes later", "Touch at the same time", false, func(t *table) {
		t.onTouch = func(_ context.Context, lastUsed map[string]time.Time) error {
			later := make(map[string]time.Time)
			t.touchRows(lastUsed, func(r *auth.Record, at time.Time) {
				if at.After(r.LastUsedAt) {
					later[r.ID] = at
				}
			})
			for _, at := range later { // the latest first
				time.Sleep(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).Sub(at))
				break
			}
			t.touchRows(later, func(r *auth.Record, at time.Time) { r.LastUsedAt = at })
			return nil
		}
	}},
	{"an Update is seen half done", "Reading during changes", true, func(t *table) {
		updating := make(chan struct{}, 1)
		t.onUpdate = func(_ context.Context, r, successor *auth.Record) error {
			updating <- struct{}{}
			defer func() { <-updating }()
			if successor == nil {
				return t.update(r, nil)
			}
			t.mu.Lock()
			err := t.free(successor)
			t.mu.Unlock()
			if old, getErr := t.get(r.ID); getErr != nil || old.Revision != r.Revision-1 || err != nil {
				return t.update(r, successor)
			}
			if err := t.update(r, nil); err != nil {
				return err
			}
			time.Sleep(moment)
			return t.insert(successor)
		}
	}},
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
