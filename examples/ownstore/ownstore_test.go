package ownstore

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
)

func TestTokens(t *testing.T) {
	authtest.TestLookup(t, func(t *testing.T, records ...auth.Record) auth.Store {
		db := openTokens(records...)
		t.Cleanup(func() { db.Close() })
		return Tokens{db}
	})
}

func TestRequests(t *testing.T) {
	const key = "acme_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v2"
	db := openTokens(auth.Record{ID: "7", Hash: auth.SHA256(nil)(key), Owner: "org_1", Scopes: auth.Scopes{"documents.read"}})
	defer db.Close()
	app := newApp(db, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, c := range []struct {
		key  string
		want int
	}{
		{key, 200},
		{key[:len(key)-1] + "3", 401},
		{"isk_" + key[5:], 401},
	} {
		r := httptest.NewRequest("GET", "/api/v1/documents", nil)
		r.Header.Set("Authorization", "Bearer "+c.key)
		w := httptest.NewRecorder()
		app.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: status %d, want %d", c.key, w.Code, c.want)
		}
	}
}

// TestOutage checks that a database that cannot answer is not "no such key".
func TestOutage(t *testing.T) {
	closed := openTokens()
	closed.Close()
	open := openTokens()
	defer open.Close()
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		tokens Tokens
	}{
		{"closed database", t.Context(), Tokens{closed}},
		{"deadline passed", late, Tokens{open}},
	} {
		_, err := c.tokens.Lookup(c.ctx, auth.Hash{})
		if err == nil {
			t.Errorf("%s: no error", c.name)
		}
		if errors.Is(err, auth.ErrNotFound) {
			t.Errorf("%s: got %v, want another error", c.name, err)
		}
	}
}
