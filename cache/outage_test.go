package cache_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
)

const recovered = "INFO auth/cache: the store answers again failures="

// fails returns the line about failures.
func fails(n int, err string) string {
	return fmt.Sprintf("ERROR auth/cache: lookups in the store fail failures=%d error=%s", n, err)
}

// An outage makes one line when it begins, one a minute, and one when it ends,
// whether or not stale records are used.
func TestOutage(t *testing.T) {
	for what, stale := range map[string]time.Duration{"stale records": time.Hour, "no stale records": 0} {
		synctest.Test(t, func(t *testing.T) {
			var logs logbook
			m := memory(t)
			for n := range 100 {
				if err := m.Insert(t.Context(), record(n)); err != nil {
					t.Fatal(err)
				}
			}
			store := &scripted{keys: m}
			s := newCache(t, store, &cache.Options{TTL: time.Second, StaleIfError: stale, Logger: logs.logger()})
			each := func() {
				for n := range 100 {
					decide(s, record(n).Hash)
				}
				synctest.Wait()
			}
			want := func(step string, want ...string) {
				t.Helper()
				if got := logs.read(); !slices.Equal(got, want) {
					t.Errorf("%s, %s: got\n%q\nwant\n%q", what, step, got, want)
				}
			}
			each()
			logs.read() // that the store is not watched
			for range 2 {
				time.Sleep(time.Second)
				store.fail()
				each()
				want("begin", fails(1, "the database is down"))
				for range 19 {
					time.Sleep(3 * time.Second)
					each()
				}
				want("under a minute")
				time.Sleep(3 * time.Second)
				each()
				want("a minute", fails(1900+100, "the database is down"))
				time.Sleep(59 * time.Second)
				each()
				want("under two minutes")
				store.do(nil)
				time.Sleep(3 * time.Second)
				each()
				want("end", recovered+"199")
				each()
				time.Sleep(time.Minute)
				each()
				want("after the end")
			}
		})
	}
}

// What begins an outage, and what ends one.
func TestOutageCounts(t *testing.T) {
	returns := func(err error) lookupFunc {
		return func(context.Context, auth.Hash) (*auth.Record, error) { return nil, err }
	}
	for _, test := range []struct {
		what   string
		script lookupFunc
		begins string // the line if the store did not fail before
		ends   bool   // the outage if it did
	}{
		{"an error", returns(errDown), fails(1, "the database is down"), false},
		{"a record", func(context.Context, auth.Hash) (*auth.Record, error) { return record(1), nil }, "", true},
		{"unknown", returns(auth.ErrNotFound), "", true},
		{"unknown, wrapped", returns(fmt.Errorf("table: %w", auth.ErrNotFound)), "", true},
		{"a context of the store's own", returns(context.Canceled), fails(1, "context canceled"), false},
		{"LookupTimeout", hang, fails(1, "context deadline exceeded"), false},
		{"a panic", func(context.Context, auth.Hash) (*auth.Record, error) { panic(http.ErrAbortHandler) },
			fails(1, "auth/cache: the store panicked: net/http: abort Handler"), false},
		{"Goexit", func(context.Context, auth.Hash) (*auth.Record, error) { runtime.Goexit(); return nil, nil },
			fails(1, "auth/cache: the store ended the goroutine of its lookup"), false},
	} {
		synctest.Test(t, func(t *testing.T) {
			var logs logbook
			store := new(scripted)
			s := newCache(t, store, &cache.Options{UnknownTTL: 1, TTL: 1, Logger: logs.logger()})
			logs.read()
			run := func(when string, script lookupFunc, want string) {
				t.Helper()
				time.Sleep(time.Second) // what was kept is used no longer
				store.do(script)
				func() {
					defer func() { recover() }()
					decide(s, record(1).Hash)
				}()
				synctest.Wait()
				if got := strings.Join(logs.read(), "\n"); got != want {
					t.Errorf("%s, %s: got %q, want %q", test.what, when, got, want)
				}
			}
			run("before an outage", test.script, test.begins)
			if test.begins == "" {
				run("the outage", returns(errDown), fails(1, "the database is down"))
			}
			end := ""
			if test.ends {
				end = recovered + "0"
			}
			run("in the outage", test.script, end)
		})
	}
}

// That clients leave is no outage.
func TestClientsThatLeaveAreNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logs logbook
		store := new(scripted)
		store.hang()
		s := newCache(t, store, &cache.Options{MaxLookups: 1, Logger: logs.logger()})
		logs.read()
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		for n := range 10 { // one lookup, and nine in the queue
			lookup(ctx, s, record(n).Hash)
		}
		defer leave(cancel)
		time.Sleep(time.Minute)
		if got := logs.read(); got != nil {
			t.Errorf("got %q, want nothing", got)
		}
	})
}

// Requests that leave the queue after QueueTimeout are failures.
func TestQueueTimeoutIsOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logs logbook
		store := new(scripted)
		store.hang()
		s := newCache(t, store, &cache.Options{MaxLookups: 1, LookupTimeout: time.Minute, Logger: logs.logger()})
		logs.read()
		lookup(t.Context(), s, record(1).Hash)
		synctest.Wait()
		for n := range 1000 {
			lookup(t.Context(), s, record(2+n).Hash)
		}
		time.Sleep(2 * time.Second)
		want := fails(1, "auth/cache: 1 lookups in progress, no place for another within 1s: "+
			"auth: the key store is unavailable")
		if got := logs.read(); !slices.Equal(got, []string{want}) {
			t.Errorf("got %q, want %q", got, want)
		}
		time.Sleep(time.Minute) // the lookup takes too long, within a minute of that line
		store.do(func(context.Context, auth.Hash) (*auth.Record, error) { return nil, auth.ErrNotFound })
		decide(s, record(1).Hash)
		synctest.Wait()
		if got, want := logs.read(), recovered+"1000"; !slices.Equal(got, []string{want}) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// A store that fails for some keys and answers for others makes no more lines
// than one that fails for all of them, and has not recovered until no lookup
// fails.
func TestStoreThatFailsNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logs logbook
		store := new(scripted)
		store.do(func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
			if hash == record(1).Hash {
				return nil, errDown
			}
			return nil, auth.ErrNotFound
		})
		s := newCache(t, store, &cache.Options{Logger: logs.logger()})
		logs.read()
		one := func(hash auth.Hash) {
			decide(s, hash)
			synctest.Wait()
		}
		for n := range 1200 { // two minutes
			one(record(1).Hash)
			one(record(2 + n).Hash)
			time.Sleep(100 * time.Millisecond)
		}
		line := fails(600, "the database is down")
		want := []string{
			fails(1, "the database is down"), recovered + "0",
			fails(1, "the database is down"), line,
		}
		if got := logs.read(); !slices.Equal(got, want) {
			t.Errorf("two minutes: got\n%q\nwant\n%q", got, want)
		}
		time.Sleep(time.Minute - 100*time.Millisecond - 1)
		one(record(2).Hash)
		if got := logs.read(); got != nil {
			t.Errorf("a nanosecond before a minute without failure: got %q, want nothing", got)
		}
		time.Sleep(time.Nanosecond)
		one(record(3).Hash)
		if got, want := logs.read(), recovered+"598"; !slices.Equal(got, []string{want}) {
			t.Errorf("a minute without failure: got %q, want %q", got, want)
		}
	})
}

// A Logger that blocks keeps no request waiting.
func TestSlowLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &blocking{gate: make(chan struct{})}
		w := newWatched(t)
		s := newCache(t, w, &cache.Options{MaxLookups: 1, Logger: slog.New(h)})
		w.do(func(context.Context, auth.Hash) (*auth.Record, error) { return nil, errDown })
		defer close(h.gate)
		for range 10 {
			if got := decide(s, record(1).Hash); !errors.Is(got, errDown) {
				t.Errorf("got error %v, want %v", got, errDown)
			}
			synctest.Wait()
		}
	})
}

// A blocking handler logs nothing until gate is closed.
type blocking struct {
	logbook
	gate chan struct{}
}

func (b *blocking) Handle(context.Context, slog.Record) error {
	<-b.gate
	return nil
}

// The error of the store is logged without the hash. Anything else in it stays.
func TestOutageHidesHash(t *testing.T) {
	hash := auth.SHA256(nil)("isk_")
	b, raw := hash[:], string(hash[:])
	inJSON, err := json.Marshal(hash)
	if err != nil {
		t.Fatal(err)
	}
	other := auth.SHA256(nil)("another").String()
	for what, spelling := range map[string]string{
		"text":               hash.String(),
		"upper case":         strings.ToUpper(hash.String()),
		"JSON":               string(inJSON),
		"%v":                 fmt.Sprint(hash),
		"bytea":              fmt.Sprintf(`'\x%x'`, b),
		"another hash":       other,
		"raw":                raw,
		"%v of the bytes":    fmt.Sprint(b),
		"%#v of the bytes":   fmt.Sprintf("%#v", b),
		"% x":                fmt.Sprintf("% x", b),
		"% X":                fmt.Sprintf("% X", b),
		"%q":                 fmt.Sprintf("%q", b),
		"%+q":                fmt.Sprintf("%+q", b),
		"bytes in JSON":      strings.ReplaceAll(fmt.Sprint(b), " ", ","),
		"base64":             base64.StdEncoding.EncodeToString(b),
		"base64 in a URL":    base64.RawURLEncoding.EncodeToString(b),
		"escaped in a query": url.QueryEscape(raw),
		"escaped in a path":  url.PathEscape(raw),
	} {
		const before, after = "dial unix /cloudsql/a:b:c/.s.PGSQL.5432: (", ") 10.0.0.7:5432"
		var logs logbook
		synctest.Test(t, func(t *testing.T) {
			store := new(scripted)
			store.do(func(context.Context, auth.Hash) (*auth.Record, error) {
				return nil, errors.New(before + spelling + after)
			})
			s := newCache(t, store, &cache.Options{Logger: logs.logger()})
			logs.read()
			decide(s, hash)
			synctest.Wait()
		})
		got := fmt.Sprint(logs.read())
		if strings.Contains(got, spelling) {
			t.Errorf("%s: got %q, want it without the hash", what, got)
		}
		for _, want := range []string{before, after, "[hash]"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: got %q, want it with %q", what, got, want)
			}
		}
	}
}
