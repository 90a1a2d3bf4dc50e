package authtest_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// A table is the plainest store that there is, made to be broken: every method
// can be replaced. It keeps events and is an auth.Watcher. A row is never
// modified, only replaced.
type table struct {
	mu        sync.Mutex
	rows      []*auth.Record // in the order of insertion
	events    []keyring.Event
	lastEvent int // its ID
	watchers  []*func(auth.Change)
	writes    int // calls of a method that writes

	owners      []string                     // that NewOwner has made
	refuses     []func(r *auth.Record) error // what a row must not be
	keeps       []func(r *auth.Record)       // what becomes of a row
	asksContext bool                         // a context that is done is an error

	// What a method does instead. The lower-case method does what is right.
	onLookup func(ctx context.Context, hash auth.Hash) (*auth.Record, error)
	onInsert func(ctx context.Context, r *auth.Record) error
	onGet    func(ctx context.Context, id string) (*auth.Record, error)
	onList   func(ctx context.Context, q keyring.Query) ([]*auth.Record, error)
	onUpdate func(ctx context.Context, r, successor *auth.Record) error
	onDelete func(ctx context.Context, id, by string) error
	onTouch  func(ctx context.Context, lastUsed map[string]time.Time) error
	onEvents func(ctx context.Context, q keyring.EventQuery) ([]keyring.Event, error)
	onWatch  func(ctx context.Context, notify func(auth.Change)) error

	// What else happens within the lower-case methods.
	inserts func(r *auth.Record)                         // changes a new row
	updates func(old, r *auth.Record)                    // changes a row that replaces old
	notes   func(e *keyring.Event) bool                  // changes an event, and reports whether to keep it
	reports func(before, after *auth.Record) (told bool) // whether watchers are told
}

// done returns an error if ctx is done, and the table asks.
func (t *table) done(ctx context.Context) error {
	if t.asksContext {
		return ctx.Err()
	}
	return nil
}

func newTable() *table { return new(table) }

func (t *table) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	if err := t.done(ctx); err != nil {
		return nil, err
	}
	if t.onLookup != nil {
		return t.onLookup(ctx, hash)
	}
	return t.lookup(hash)
}

func (t *table) lookup(hash auth.Hash) (*auth.Record, error) {
	return t.find(func(r *auth.Record) bool { return r.Hash == hash })
}

func (t *table) Get(ctx context.Context, id string) (*auth.Record, error) {
	if err := t.done(ctx); err != nil {
		return nil, err
	}
	if t.onGet != nil {
		return t.onGet(ctx, id)
	}
	return t.get(id)
}

func (t *table) get(id string) (*auth.Record, error) {
	return t.find(func(r *auth.Record) bool { return r.ID == id })
}

// find returns the first row that matches.
func (t *table) find(match func(r *auth.Record) bool) (*auth.Record, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.IndexFunc(t.rows, match); i >= 0 {
		return t.rows[i], nil
	}
	return nil, auth.ErrNotFound
}

func (t *table) Insert(ctx context.Context, r *auth.Record) error {
	if err := t.done(ctx); err != nil {
		return err
	}
	t.write()
	if t.onInsert != nil {
		return t.onInsert(ctx, r)
	}
	return t.insert(r)
}

func (t *table) write() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writes++
}

// written reports whether a method that writes was ever called.
func (t *table) written() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.writes > 0
}

func (t *table) insert(r *auth.Record) error {
	t.mu.Lock()
	err := t.free(r)
	if err == nil {
		err = t.add(r)
	}
	t.mu.Unlock()
	if err == nil {
		t.report(nil, r)
	}
	return err
}

// free returns an error if r cannot be inserted. The caller holds t.mu.
func (t *table) free(r *auth.Record) error {
	if r.ID == "" {
		return errors.New("no ID")
	}
	if err := t.refused(r); err != nil {
		return err
	}
	if slices.ContainsFunc(t.rows, func(old *auth.Record) bool { return old.ID == r.ID || old.Hash == r.Hash }) {
		return keyring.ErrExists
	}
	return nil
}

func (t *table) refused(r *auth.Record) error {
	for _, refuses := range t.refuses {
		if err := refuses(r); err != nil {
			return err
		}
	}
	return nil
}

// kept returns what a row becomes.
func (t *table) kept(r *auth.Record) *auth.Record {
	row := r.Clone()
	for _, keeps := range t.keeps {
		keeps(row)
	}
	return row
}

// add adds a row and its event. The caller holds t.mu.
func (t *table) add(r *auth.Record) error {
	row := t.kept(r)
	if t.inserts != nil {
		t.inserts(row)
	}
	t.rows = append(t.rows, row)
	t.note(keyring.EventOf(nil, row, row.CreatedBy, row.CreatedAt))
	return nil
}

func (t *table) List(ctx context.Context, q keyring.Query) ([]*auth.Record, error) {
	if err := t.done(ctx); err != nil {
		return nil, err
	}
	if t.onList != nil {
		return t.onList(ctx, q)
	}
	return t.list(q)
}

func (t *table) list(q keyring.Query) ([]*auth.Record, error) {
	if q.Limit < 1 {
		return nil, errors.New("the limit is below 1")
	}
	return limited(t.selected(q, q.Matches), q.Limit), nil
}

func limited(list []*auth.Record, limit int) []*auth.Record { return list[:min(limit, len(list))] }

// selected returns the rows that match, in the order of q.
func (t *table) selected(q keyring.Query, match func(r *auth.Record) bool) []*auth.Record {
	return t.sorted(q, match, byteOrder)
}

func (t *table) sorted(q keyring.Query, match func(r *auth.Record) bool,
	order func(a, b keyring.Position) int) []*auth.Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*auth.Record
	for _, r := range t.rows {
		if match(r) {
			list = append(list, r)
		}
	}
	slices.SortStableFunc(list, func(a, b *auth.Record) int {
		c := order(keyring.PositionOf(a), keyring.PositionOf(b))
		if q.NewestFirst {
			return -c
		}
		return c
	})
	return list
}

func byteOrder(a, b keyring.Position) int {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
}

func (t *table) Update(ctx context.Context, r, successor *auth.Record) error {
	if err := t.done(ctx); err != nil {
		return err
	}
	t.write()
	if t.onUpdate != nil {
		return t.onUpdate(ctx, r, successor)
	}
	return t.update(r, successor)
}

func (t *table) update(r, successor *auth.Record) error {
	old, err := t.replace(r, successor)
	if err != nil {
		return err
	}
	t.report(old, r)
	if successor != nil {
		t.report(nil, successor)
	}
	return nil
}

// replace does what update does, without the reports. It returns the row that
// was replaced.
func (t *table) replace(r, successor *auth.Record) (*auth.Record, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.rows, func(old *auth.Record) bool { return old.ID == r.ID })
	if i < 0 {
		return nil, auth.ErrNotFound
	}
	old := t.rows[i]
	if old.Revision != r.Revision-1 {
		return nil, keyring.ErrConflict
	}
	if err := t.refused(r); err != nil {
		return nil, err
	}
	if successor != nil {
		if err := t.free(successor); err != nil {
			return nil, err
		}
	}
	t.put(i, r)
	if successor != nil {
		t.add(successor)
	}
	return old, nil
}

// put makes r the row i, as far as Update stores it. The caller holds t.mu.
func (t *table) put(i int, r *auth.Record) {
	old, row := t.rows[i], t.kept(r)
	row.ID, row.Hash, row.Owner = old.ID, old.Hash, old.Owner
	row.CreatedAt, row.CreatedBy, row.LastUsedAt = old.CreatedAt, old.CreatedBy, old.LastUsedAt
	if t.updates != nil {
		t.updates(old, row)
	}
	t.rows[i] = row
	t.note(keyring.EventOf(old, row, row.UpdatedBy, row.UpdatedAt))
}

func (t *table) Delete(ctx context.Context, id, by string) error {
	if err := t.done(ctx); err != nil {
		return err
	}
	t.write()
	if t.onDelete != nil {
		return t.onDelete(ctx, id, by)
	}
	return t.delete(id, by)
}

func (t *table) delete(id, by string) error {
	t.mu.Lock()
	i := slices.IndexFunc(t.rows, func(r *auth.Record) bool { return r.ID == id })
	if i < 0 {
		t.mu.Unlock()
		return auth.ErrNotFound
	}
	old := t.rows[i]
	t.rows = slices.Delete(t.rows, i, i+1)
	t.note(keyring.EventOf(old, nil, by, time.Now()))
	t.mu.Unlock()
	t.report(old, nil)
	return nil
}

func (t *table) Touch(ctx context.Context, lastUsed map[string]time.Time) error {
	if err := t.done(ctx); err != nil {
		return err
	}
	t.write()
	if t.onTouch != nil {
		return t.onTouch(ctx, lastUsed)
	}
	return t.touch(lastUsed)
}

func (t *table) touch(lastUsed map[string]time.Time) error {
	t.touchRows(lastUsed, func(r *auth.Record, at time.Time) {
		if at.After(r.LastUsedAt) {
			r.LastUsedAt = at
		}
	})
	return nil
}

// touchRows replaces the rows in lastUsed by what f makes of them.
func (t *table) touchRows(lastUsed map[string]time.Time, f func(r *auth.Record, at time.Time)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, r := range t.rows {
		if at, ok := lastUsed[r.ID]; ok {
			c := r.Clone()
			f(c, at)
			t.rows[i] = c
		}
	}
}

func (t *table) Events(ctx context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
	if err := t.done(ctx); err != nil {
		return nil, err
	}
	if t.onEvents != nil {
		return t.onEvents(ctx, q)
	}
	return t.listEvents(q)
}

func (t *table) listEvents(q keyring.EventQuery) ([]keyring.Event, error) {
	if q.Limit < 1 {
		return nil, errors.New("the limit is below 1")
	}
	older, err := t.olderThan(q.After, q.Owner)
	if err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(older, func(e keyring.Event) bool { return !selects(q, e) })
	return list[:min(q.Limit, len(list))], nil
}

// olderThan returns the events that are older than that with the ID after,
// newest first.
func (t *table) olderThan(after, owner string) ([]keyring.Event, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := slices.Clone(t.events)
	slices.Reverse(list)
	if after == "" {
		return list, nil
	}
	i := slices.IndexFunc(list, func(e keyring.Event) bool { return e.ID == after && (owner == "" || e.Owner == owner) })
	if i < 0 {
		return nil, auth.ErrNotFound
	}
	return list[i+1:], nil
}

func selects(q keyring.EventQuery, e keyring.Event) bool {
	return (q.KeyID == "" || e.KeyID == q.KeyID) && (q.Owner == "" || e.Owner == q.Owner) &&
		(q.By == "" || e.By == q.By) && (q.Kind == "" || e.Kind == q.Kind) &&
		!e.Time.Before(q.From) && (q.To.IsZero() || e.Time.Before(q.To))
}

// note keeps an event. The caller holds t.mu.
func (t *table) note(e keyring.Event) {
	t.lastEvent++
	e.ID = strconv.Itoa(t.lastEvent)
	if t.notes == nil || t.notes(&e) {
		t.events = append(t.events, e)
	}
}

func (t *table) Watch(ctx context.Context, notify func(auth.Change)) error {
	if t.onWatch != nil {
		return t.onWatch(ctx, notify)
	}
	return t.watch(ctx, notify)
}

func (t *table) watch(ctx context.Context, notify func(auth.Change)) error {
	t.addWatcher(&notify)
	notify(auth.Change{Kind: auth.WatchStarted})
	<-ctx.Done()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watchers = slices.DeleteFunc(t.watchers, func(w *func(auth.Change)) bool { return w == &notify })
	return ctx.Err()
}

func (t *table) addWatcher(notify *func(auth.Change)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watchers = append(t.watchers, notify)
}

// report tells the watchers of a change. One of the two may be nil.
func (t *table) report(before, after *auth.Record) {
	if t.reports != nil && !t.reports(before, after) {
		return
	}
	r := after
	if r == nil {
		r = before
	}
	t.tell(auth.Change{Kind: auth.RecordChanged, Hash: r.Hash})
}

func (t *table) tell(c auth.Change) {
	t.mu.Lock()
	watchers := slices.Clone(t.watchers)
	t.mu.Unlock()
	for _, notify := range watchers {
		(*notify)(c)
	}
}

// raceEnabled reports whether the race detector is on, which makes a test that
// does much take ten times as long.
var raceEnabled = func() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}()

// answer returns the answer of h to r.
func answer(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// A failing is a testing.TB that collects failures instead of failing.
type failing struct {
	testing.TB
	failures []string
}

func (f *failing) Helper() {}

func (f *failing) Errorf(format string, args ...any) {
	f.failures = append(f.failures, fmt.Sprintf(format, args...))
}

func (f *failing) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	panic(f)
}

// failuresOf returns what f reports.
func failuresOf(t *testing.T, f func(t testing.TB)) (failures []string) {
	fake := &failing{TB: t}
	defer func() {
		if v := recover(); v != nil && v != any(fake) {
			panic(v)
		}
		failures = fake.failures
	}()
	f(fake)
	return
}
