package auth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/insigner/auth"
)

var ctx = context.Background()

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// numbered is a record of its own for every i, made i seconds after the epoch.
func numbered(i int) auth.Record {
	r := auth.Record{ID: fmt.Sprintf("key_%07d", i), Name: "n", Owner: fmt.Sprint("org_", i%3), CreatedAt: epoch.Add(time.Duration(i) * time.Second),
		Scopes: auth.Scopes{"a.x"}}
	r.Hash = auth.SHA256(r.ID)
	return r
}

func TestCheck(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 500, time.UTC)
	east, west := time.FixedZone("east", 14*3600), time.FixedZone("west", -12*3600)
	var never time.Time
	for _, c := range []struct {
		name             string
		now              time.Time
		revoked, expires time.Time
		want             error
	}{
		{"neither", now, never, never, nil},
		{"a nanosecond to go", now, never, now.Add(1), nil},
		{"the instant itself", now, never, now, auth.ErrKeyExpired},
		{"a nanosecond ago", now, never, now.Add(-1), auth.ErrKeyExpired},
		{"to go, seen from the east", now.In(east), never, now.Add(1), nil},
		{"the instant, seen from the east", now.In(east), never, now, auth.ErrKeyExpired},
		{"to go, written in the west", now, never, now.Add(1).In(west), nil},
		{"the instant, written in the west", now, never, now.In(west), auth.ErrKeyExpired},
		{"a later hour on the wall of the east, though past", now, never, now.Add(-time.Hour).In(east), auth.ErrKeyExpired},
		{"an earlier hour on the wall of the west, though to come", now, never, now.Add(time.Hour).In(west), nil},
		{"year 1", now, never, time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), auth.ErrKeyExpired},
		{"the first instant of year 1 is the zero time: never", now, never, time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), nil},
		{"the same in another zone", now, never, time.Time{}.In(east), nil},
		{"year 0", now, never, time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), auth.ErrKeyExpired},
		{"1883, before what a monotonic time can hold", now, never, time.Date(1883, 1, 1, 0, 0, 0, 0, time.UTC), auth.ErrKeyExpired},
		{"1970", now, never, time.Unix(0, 0), auth.ErrKeyExpired},
		{"2262, after what UnixNano can hold", now, never, time.Date(2262, 12, 1, 0, 0, 0, 0, time.UTC), nil},
		{"9999", now, never, time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), nil},
		{"20000", now, never, time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC), nil},
		{"in year 20000, the instant", time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC), never, time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC), auth.ErrKeyExpired},
		{"in year 20000, 9999 is past", time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC), never, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), auth.ErrKeyExpired},
		{"revoked long ago", now, time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), never, auth.ErrKeyRevoked},
		{"revoked now", now, now, never, auth.ErrKeyRevoked},
		{"revoked from tomorrow", now, now.AddDate(0, 0, 1), never, auth.ErrKeyRevoked},
		{"revoked in year 20000", now, time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC), never, auth.ErrKeyRevoked},
		{"revoked, not expired", now, now, now.Add(time.Hour), auth.ErrKeyRevoked},
		{"revoked and expired", now, now, now.Add(-time.Hour), auth.ErrKeyRevoked},
	} {
		if got := (auth.Record{RevokedAt: c.revoked, ExpiresAt: c.expires}).Check(c.now); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// byTwoClocks returns a time that is so much later than now on the wall clock, and so much by its monotonic reading.
func byTwoClocks(t *testing.T, now time.Time, wall, monotonic time.Duration) time.Time {
	t.Helper()
	later := now.Add(wall)
	// The second word of a Time with a monotonic reading is that reading, in nanoseconds.
	(*[2]int64)(unsafe.Pointer(&later))[1] += int64(monotonic - wall)
	if later.Round(0).Sub(now.Round(0)) != wall || later.Sub(now) != monotonic {
		t.Skip("time.Time is laid out in another way")
	}
	return later
}

// TestCheckByTheWall: a monotonic reading that disagrees with the wall clock, as after a laptop's sleep, is ignored.
func TestCheckByTheWall(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		wall, monotonic time.Duration // of the expiry, from now
		want            error
	}{
		{time.Hour, -time.Hour, nil},
		{-time.Hour, time.Hour, auth.ErrKeyExpired},
		{0, time.Hour, auth.ErrKeyExpired},
		{time.Hour, time.Hour, nil},
		{-time.Hour, -time.Hour, auth.ErrKeyExpired},
	} {
		expires := byTwoClocks(t, now, c.wall, c.monotonic)
		for _, now := range []time.Time{now, now.Round(0), now.UTC()} {
			if got := (auth.Record{ExpiresAt: expires}).Check(now); got != c.want {
				t.Errorf("%v on the wall, %v monotonic: %v, want %v", c.wall, c.monotonic, got, c.want)
			}
		}
	}
}

func TestRecordShows(t *testing.T) {
	r := goodRecord()
	r.LastUsedAt = epoch
	const short = "key_good (isk_…U1v2)"
	for _, verb := range "vsqxXdtbcoOeEfFgGU" {
		for _, flag := range []string{"", "+", "#"} {
			format := "%" + flag + string(verb)
			if got, inside := fmt.Sprintf(format, r), fmt.Sprintf(format, []any{&r}); got != short || !strings.Contains(inside, short) {
				t.Errorf("%s: %s, and %.200s in a slice", format, got, inside)
			}
		}
	}
	text, err := json.Marshal(r)
	if want := `{"id":"key_good","hint":"isk_…U1v2","name":"Production Backend","owner":"org_1","scopes":["*"],` +
		`"createdAt":"2026-01-02T03:04:05Z","lastUsedAt":"2026-01-02T03:04:05Z","metadata":{"env":"prod"}}`; string(text) != want || err != nil {
		t.Errorf("JSON: %s, %v\nwant %s", text, err, want)
	}
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "r", r, "p", &r)
	if want := `{"id":"key_good","hint":"isk_…U1v2","name":"Production Backend","owner":"org_1"}`; strings.Count(out.String(), want) != 2 {
		t.Errorf("slog: %s", out.String())
	}
	for k, want := range map[auth.ChangeKind]string{auth.RecordChanged: "RecordChanged", auth.ChangesSeen: "ChangesSeen",
		auth.ChangesLost: "ChangesLost", 0: "ChangeKind(0)", 9: "ChangeKind(9)"} {
		if k.String() != want {
			t.Errorf("%s, want %s", k, want)
		}
	}
	if got := (auth.Snapshot{}).Record(); !reflect.DeepEqual(got, auth.Record{}) {
		t.Errorf("the zero Snapshot holds %v", got)
	}
}

// TestMemoryStore has the rules of KeyStore in short; authtest has them at length.
func TestMemoryStore(t *testing.T) {
	var m auth.MemoryStore
	_, err := m.Lookup(ctx, auth.Hash{})
	_, err2 := m.Get(ctx, "")
	page, err3 := m.List(ctx, "", auth.Position{}, 1)
	if err != auth.ErrNotFound || err2 != auth.ErrNotFound || err3 != nil || len(page) > 0 {
		t.Errorf("an empty store: %v, %v, %v, %v", err, err2, page, err3)
	}
	if err := errors.Join(m.Insert(ctx, numbered(1)), m.Insert(ctx, numbered(3)), m.Insert(ctx, numbered(2))); err != nil {
		t.Fatal(err)
	}
	sameID, sameHash := numbered(1), numbered(9)
	sameID.Hash, sameHash.Hash = auth.Hash{1}, numbered(1).Hash
	successor := func(i, of int) auth.Record {
		r := numbered(i)
		r.Replaces = fmt.Sprintf("key_%07d", of)
		return r
	}
	taken := successor(2, 1)
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"the same again", m.Insert(ctx, numbered(1)), auth.ErrExists},
		{"the same ID", m.Insert(ctx, sameID), auth.ErrExists},
		{"the same hash", m.Insert(ctx, sameHash), auth.ErrExists},
		{"revoke nobody", m.Revoke(ctx, "nobody", epoch), auth.ErrNotFound},
		{"revoke", m.Revoke(ctx, "key_0000003", epoch), nil},
		{"revoke again", m.Revoke(ctx, "key_0000003", epoch.Add(time.Hour)), nil},
		{"replace nobody", m.Replace(ctx, successor(10, 99), epoch), auth.ErrNotFound},
		{"replace the revoked", m.Replace(ctx, successor(10, 3), epoch), auth.ErrKeyRevoked},
		{"replace by one that is there", m.Replace(ctx, taken, epoch), auth.ErrExists},
		{"replace", m.Replace(ctx, successor(10, 1), epoch.Add(time.Hour)), nil},
		{"replace again", m.Replace(ctx, successor(11, 1), epoch), auth.ErrSuperseded},
		{"touch", m.Touch(ctx, map[string]time.Time{"key_0000001": epoch.Add(2), "nobody": epoch}), nil},
		{"touch, earlier", m.Touch(ctx, map[string]time.Time{"key_0000001": epoch.Add(1)}), nil},
		{"touch nothing", m.Touch(ctx, nil), nil},
		{"list none", second(m.List(ctx, "", auth.Position{}, 0)), nil},
	} {
		if c.name == "list none" {
			if c.err == nil {
				t.Error("a limit of 0 is no error")
			}
		} else if c.err != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.err, c.want)
		}
	}
	want := numbered(1)
	want.ReplacedBy, want.ExpiresAt, want.LastUsedAt = "key_0000010", epoch.Add(time.Hour), epoch.Add(2)
	for _, r := range []auth.Record{first(m.Get(ctx, want.ID)), first(m.Lookup(ctx, want.Hash)), first(m.LookupSnapshot(ctx, want.Hash)).Record()} {
		if !reflect.DeepEqual(r, want) {
			t.Errorf("%#v, want %#v", r, want)
		}
	}
	if r, _ := m.Get(ctx, "key_0000003"); !r.RevokedAt.Equal(epoch) {
		t.Errorf("revoked at %v", r.RevokedAt)
	}
	for _, c := range []struct {
		owner string
		after int
		limit int
		want  string
	}{{"", 0, 10, "1 2 3 10"}, {"", 0, 2, "1 2"}, {"", 2, 10, "3 10"}, {"", 5, 10, "10"}, {"org_1", 0, 10, "1 10"}, {"org_1", 1, 10, "10"}, {"none", 0, 10, ""}, {"", 10, 10, ""}} {
		after := numbered(c.after)
		page, err := m.List(ctx, c.owner, auth.Position{CreatedAt: after.CreatedAt, ID: after.ID}, c.limit)
		var got []string
		for _, r := range page {
			got = append(got, strings.TrimLeft(r.ID, "key_0"))
		}
		if strings.Join(got, " ") != c.want || err != nil {
			t.Errorf("list %q after %d, %d: %v, %v, want %s", c.owner, c.after, c.limit, got, err, c.want)
		}
	}
}

func first[A, B any](a A, _ B) A { return a }

// TestMemoryStoreGrows to a size at which a linear scan would show, with look-ups going on meanwhile.
func TestMemoryStoreGrows(t *testing.T) {
	n := int64(100_000)
	if raceEnabled {
		n = 10_000
	}
	var m auth.MemoryStore
	var inserted atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for inserted.Load() < n {
				if top := inserted.Load(); top > 0 {
					want := numbered(int(rand.Int64N(top)))
					if s, err := m.LookupSnapshot(ctx, want.Hash); err != nil || s.Record().ID != want.ID {
						t.Errorf("%s: %v, %v", want.ID, s, err)
						return
					}
				}
			}
		})
	}
	for i := range n {
		if err := m.Insert(ctx, numbered(int(i))); err != nil {
			t.Error(err)
			break
		}
		inserted.Store(i + 1)
	}
	inserted.Store(n)
	wg.Wait()
	for i := 0; i < int(n); i += 97 {
		want := numbered(i)
		if got, err := m.Lookup(ctx, want.Hash); err != nil || got.ID != want.ID {
			t.Fatalf("%s: %v, %v", want.ID, got, err)
		}
	}
}

// TestLookupOfNobody: an empty slot may be taken by another record while a look-up is at it, and that is not the answer.
func TestLookupOfNobody(t *testing.T) {
	var records [2000]auth.Record
	for i := range records {
		records[i] = numbered(i)
	}
	for range 60 {
		var m auth.MemoryStore
		var done atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := 0; !done.Load(); i++ {
				if r, err := m.Lookup(ctx, auth.Hash{1, byte(i), byte(i >> 8)}); err != auth.ErrNotFound {
					t.Errorf("a hash of nobody: %v, %v", r, err)
					return
				}
			}
		})
		for _, r := range records {
			m.Insert(ctx, r)
		}
		done.Store(true)
		wg.Wait()
	}
}

// TestMemoryStoreConcurrent: all at once, for the race detector, and nothing is lost.
func TestMemoryStoreConcurrent(t *testing.T) {
	m := newStore(goodRecord()) // which all of them touch and revoke
	var wg sync.WaitGroup
	const workers, each = 4, 100
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				r := numbered(w*each + i)
				successor := numbered(1000 + w*each + i)
				successor.Replaces = r.ID
				at := epoch.Add(time.Duration(w*each + i))
				if err := errors.Join(m.Insert(ctx, r), m.Touch(ctx, map[string]time.Time{"key_good": at, r.ID: at}),
					m.Replace(ctx, successor, at), m.Revoke(ctx, r.ID, at)); err != nil {
					t.Error(err)
				}
				m.Revoke(ctx, "key_good", at)
				if got, err := m.Lookup(ctx, r.Hash); err != nil || got.ReplacedBy != successor.ID || got.RevokedAt.IsZero() {
					t.Errorf("%s: %v", r.ID, err)
				}
				if got, err := m.Get(ctx, successor.ID); err != nil || got.Replaces != r.ID {
					t.Errorf("%s: %v", successor.ID, err)
				}
				if _, err := m.List(ctx, "org_1", auth.Position{}, 10); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	page, err := m.List(ctx, "", auth.Position{}, 10_000)
	if len(page) != 1+2*workers*each || err != nil || !slices.IsSortedFunc(page, func(a, b auth.Record) int { return a.CreatedAt.Compare(b.CreatedAt) }) {
		t.Errorf("%d records, %v", len(page), err)
	}
	if got, _ := m.Get(ctx, "key_good"); !got.LastUsedAt.Equal(epoch.Add(workers*each-1)) || got.RevokedAt.IsZero() {
		t.Errorf("the newest use is %v, revoked at %v", got.LastUsedAt, got.RevokedAt)
	}
}

// TestLookupDoesNotWait: while a writer holds whatever lock there is, look-ups are answered.
func TestLookupDoesNotWait(t *testing.T) {
	m := newStore(goodRecord())
	held, release := make(chan bool), make(chan bool)
	watching, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	seen := make(chan bool)
	wg.Go(func() {
		m.Watch(watching, func(c auth.Change) {
			switch c.Kind {
			case auth.ChangesSeen:
				close(seen)
			case auth.RecordChanged:
				close(held)
				<-release
			}
		})
	})
	<-seen
	wg.Go(func() { m.Insert(ctx, numbered(1)) })
	select {
	case <-held: // the writer is inside Insert until it is released
	case <-time.After(10 * time.Second):
		t.Fatal("Insert is not reported")
	}
	done := make(chan bool)
	go func() {
		defer close(done)
		if _, err := auth.New(m, nil).Authenticate(requestWith(goodKey)); err != nil {
			t.Error(err)
		}
		if _, err := m.Lookup(ctx, goodHash); err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("a look-up waits for a writer")
	}
	close(release)
	stop()
	wg.Wait()
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(numbered(1))
		var got [2][]string
		stops := make([]context.CancelFunc, 2)
		var errs [2]error
		names := map[auth.Hash]string{numbered(1).Hash: "1", numbered(2).Hash: "2", numbered(3).Hash: "3", {}: ""}
		for i := range 2 {
			watching, stop := context.WithCancel(ctx)
			stops[i] = stop
			go func() {
				errs[i] = m.Watch(watching, func(c auth.Change) { got[i] = append(got[i], c.Kind.String()+names[c.Hash]) })
			}()
		}
		synctest.Wait()
		// Each change is reported before the call that made it returns.
		expect := func(step string, want ...string) {
			t.Helper()
			for i := range got {
				if !slices.Equal(got[i], want) {
					t.Errorf("%s: watcher %d got %v, want %v", step, i, got[i], want)
				}
				got[i] = nil
			}
		}
		expect("Watch", "ChangesSeen")
		m.Insert(ctx, numbered(2))
		expect("Insert", "RecordChanged2")
		m.Insert(ctx, numbered(2))
		expect("Insert in vain")
		m.Touch(ctx, map[string]time.Time{"key_0000001": epoch})
		expect("Touch")
		successor := numbered(3)
		successor.Replaces = "key_0000001"
		m.Replace(ctx, successor, epoch)
		slices.Sort(got[0])
		slices.Sort(got[1])
		expect("Replace", "RecordChanged1", "RecordChanged3")
		m.Replace(ctx, successor, epoch)
		expect("Replace in vain")
		m.Revoke(ctx, "key_0000002", epoch)
		expect("Revoke", "RecordChanged2")
		m.Revoke(ctx, "key_0000002", epoch)
		expect("Revoke again")
		stops[0]()
		synctest.Wait()
		m.Insert(ctx, numbered(4))
		if want := []string{"ChangesLost"}; !slices.Equal(got[0], want) || errs[0] != context.Canceled || len(got[1]) != 1 || errs[1] != nil {
			t.Errorf("after one has stopped: %v %v, %v %v", got[0], errs[0], got[1], errs[1])
		}
		stops[1]()
		synctest.Wait()
		if errs[1] != context.Canceled || got[1][len(got[1])-1] != "ChangesLost" {
			t.Errorf("%v, %v", errs[1], got[1])
		}
	})
}

// No hash is in what fmt and slog print of a store or a change.
func TestStoreDoesNotPrintHashes(t *testing.T) {
	m := new(auth.MemoryStore)
	if err := m.Insert(t.Context(), goodRecord()); err != nil {
		t.Fatal(err)
	}
	change := auth.Change{Kind: auth.RecordChanged, Hash: goodHash}
	var out bytes.Buffer
	type byValue struct{ Keys auth.MemoryStore }
	held := new(byValue)
	if err := held.Keys.Insert(t.Context(), goodRecord()); err != nil {
		t.Fatal(err)
	}
	var decision auth.Decision
	a := auth.New(m, &auth.Options{OnDecision: func(_ *http.Request, d auth.Decision) { decision = d }})
	if _, err := a.Authenticate(requestWith(goodKey)); err != nil {
		t.Fatal(err)
	}
	uses := auth.NewUseRecorder(m, nil)
	defer uses.Close()
	for _, v := range []any{m, change, &change, []auth.Change{change}, held, decision, &decision, []auth.Decision{decision},
		auth.NewSnapshot(goodRecord()), []auth.Snapshot{auth.NewSnapshot(goodRecord())}, a, auth.NewKeyring(m, nil), uses} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q", "%t", "%e", "%c", "%U", "%z"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", change, "list", []auth.Change{change}, "decision", decision)
	for _, spelling := range []string{goodHash.String()[:12], fmt.Sprint(goodHash[:6])[1:12], fmt.Sprintf("%#v", goodHash[:3])[7:20]} {
		if strings.Contains(out.String(), spelling) {
			t.Errorf("%q is in\n%s", spelling, &out)
		}
	}
	if !strings.Contains(out.String(), "auth.MemoryStore(1)") || !strings.Contains(out.String(), "RecordChanged") ||
		!strings.Contains(out.String(), "outcome=OK") || !strings.Contains(out.String(), "key_good (isk_…U1v2)") {
		t.Errorf("printed\n%s", &out)
	}
}

// TestReplaceIsOneStep: who finds the successor, or is told of it, finds the old record rotated; a watcher that panics
// leaves no half of it, and no lock.
func TestReplaceIsOneStep(t *testing.T) {
	m := newStore(goodRecord())
	successor := goodRecord()
	successor.ID, successor.Replaces, successor.Hash = "key_next", "key_good", auth.Hash{1}
	rotated := func() bool {
		old, _ := m.Lookup(context.Background(), goodHash)
		got, err := m.Lookup(context.Background(), successor.Hash)
		return err == nil && got.ID == "key_next" && old.ReplacedBy == "key_next"
	}
	ctx, stop := context.WithCancel(t.Context())
	seen, reports := make(chan struct{}), 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Watch(ctx, func(c auth.Change) {
			switch c.Kind {
			case auth.ChangesSeen:
				close(seen)
			case auth.RecordChanged:
				if reports++; !rotated() {
					t.Error("a change is reported before it is whole")
				}
				panic("watcher")
			}
		})
	}()
	<-seen
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is swallowed")
			}
		}()
		m.Replace(ctx, successor, time.Now())
	}()
	if !rotated() || reports != 1 {
		t.Errorf("after %d reports: rotated %v", reports, rotated())
	}
	if _, err := m.Get(ctx, "key_next"); err != nil {
		t.Error(err)
	}
	stop()
	<-done
}

// TestWatcherPanics: a watcher that panics as it begins leaves no lock and is not called again.
func TestWatcherPanics(t *testing.T) {
	m := newStore(goodRecord())
	calls := 0
	func() {
		defer func() { recover() }()
		m.Watch(t.Context(), func(auth.Change) { calls++; panic("watcher") })
	}()
	before := calls
	if err := m.Revoke(t.Context(), "key_good", time.Now()); err != nil || calls != before {
		t.Errorf("%v after %d calls, then %d", err, before, calls)
	}
}

// TestTouchByTheWall: the later time by the wall clock counts, whatever a monotonic reading says.
func TestTouchByTheWall(t *testing.T) {
	m := newStore(goodRecord())
	now := time.Now()
	later := byTwoClocks(t, now, 2*time.Hour, 0)
	for _, at := range []time.Time{later, byTwoClocks(t, now, time.Hour, 24*time.Hour)} {
		if err := m.Touch(t.Context(), map[string]time.Time{"key_good": at}); err != nil {
			t.Fatal(err)
		}
	}
	if r, _ := m.Get(t.Context(), "key_good"); !r.LastUsedAt.Round(0).Equal(later.Round(0)) {
		t.Errorf("last used at %v, want %v", r.LastUsedAt, later)
	}
}
