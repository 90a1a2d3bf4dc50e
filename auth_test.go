package auth_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/insigner/auth"
)

// goodKey is the key that the inSigner API documentation shows.
const goodKey = "isk_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v2"

var goodHash = auth.BLAKE2b(nil)(goodKey)

func goodRecord() auth.Record { return scopedRecord("*") }

// scopedRecord is the record of goodKey, with these scopes.
func scopedRecord(scopes ...auth.Scope) auth.Record {
	return auth.Record{ID: "key_good", Hash: goodHash, Hint: "isk_…U1v2", Name: "Production Backend", Owner: "org_1",
		Scopes: scopes, CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Metadata: map[string]string{"env": "prod"}}
}

func newStore(records ...auth.Record) *auth.MemoryStore {
	m := new(auth.MemoryStore)
	for _, r := range records {
		if err := m.Insert(context.Background(), r); err != nil {
			panic(err)
		}
	}
	return m
}

// A countingStore counts look-ups. It hides whatever else its Store can do.
type countingStore struct {
	auth.Store
	calls atomic.Int64
}

func (s *countingStore) Lookup(ctx context.Context, h auth.Hash) (auth.Record, error) {
	s.calls.Add(1)
	return s.Store.Lookup(ctx, h)
}

// A storeFunc is a Store that answers what it is told to.
type storeFunc func(ctx context.Context, h auth.Hash) (auth.Record, error)

func (f storeFunc) Lookup(ctx context.Context, h auth.Hash) (auth.Record, error) { return f(ctx, h) }

// panicOf returns what f panics with, or "" if it does not.
func panicOf(f func()) (message string) {
	defer func() {
		if v := recover(); v != nil {
			message = fmt.Sprint(v)
		}
	}()
	f()
	return ""
}

// failingStore is a Store that answers every look-up with err, beside a record that would open the route.
func failingStore(err error) auth.Store {
	return storeFunc(func(context.Context, auth.Hash) (auth.Record, error) { return goodRecord(), err })
}

// requestWith is a request that presents key.
func requestWith(key string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+key)
	return r
}

func itoa(n int) string { return strconv.Itoa(n) }

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// leaks reports whether text holds eight characters in a row of the secret part of key.
func leaks(text, key string) bool {
	for i := len(auth.Prefix); i+8 <= len(key); i++ {
		if strings.Contains(text, key[i:i+8]) {
			return true
		}
	}
	return false
}
