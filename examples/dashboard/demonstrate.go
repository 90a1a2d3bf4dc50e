package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/keyring"
)

const day = 24 * time.Hour

// demonstrate gives Acme some keys and a week of requests, unless it has them
// already. Nobody has the keys, so none of them is a way in.
func demonstrate(ctx context.Context, manager *keyring.Manager, keys keyring.Store, logs apilog.Store) error {
	now := time.Now().UTC().Truncate(time.Microsecond)
	scheme := manager.Options().Scheme
	var records []auth.Record
	for i, spec := range []struct {
		name    string
		age     time.Duration
		expires time.Duration // from now; 0 is never
		scopes  auth.Scopes
	}{
		{"Production Backend", 210 * day, 0, auth.Scopes{"documents.*", "templates.read"}},
		{"Staging", 90 * day, 90 * day, auth.Scopes{"documents.*"}},
		{"Nightly export", 87 * day, 3 * day, auth.Scopes{"documents.read", "org.read"}},
		{"Old website", 400 * day, -2 * day, auth.Scopes{"documents.create", "documents.send"}},
		{"Laptop of Ada", 30 * day, 0, auth.Scopes{"*"}},
		{"Campaign tool", 60 * day, 0, auth.Scopes{"campaigns.*", "bulk_sends.read"}},
	} {
		key := scheme.NewKey()
		id := fmt.Sprintf("00000000-0000-7000-8000-%012d", i+1)
		at := now.Add(-spec.age)
		r := auth.Record{ID: id, Chain: id, Hint: key.Hint(), Name: spec.name, Owner: "Acme", Hash: scheme.Hashes(key)[0],
			Scopes: spec.scopes, CreatedAt: at, CreatedBy: "Ada", UpdatedAt: at, UpdatedBy: "Ada", Revision: 1}
		if spec.expires != 0 {
			r.ExpiresAt = now.Add(spec.expires)
		}
		if err := keys.Insert(ctx, &r); errors.Is(err, keyring.ErrExists) {
			return nil // an earlier start, or another instance
		} else if err != nil {
			return err
		}
		records = append(records, r)
	}
	ada := manager.For(identities[0].Viewer.Actor)
	next, _, err := ada.Rotate(ctx, records[1].ID, 2*day)
	if err != nil {
		return err
	}
	if err := ada.Revoke(ctx, records[4].ID); err != nil {
		return err
	}
	if err := ada.Disable(ctx, records[5].ID); err != nil {
		return err
	}
	entries := requests(now, append(records, next))
	for batch := range slices.Chunk(entries, 1000) {
		if err := logs.Append(ctx, batch); err != nil {
			return err
		}
	}
	lastUsed := make(map[string]time.Time)
	for _, e := range entries {
		if e.Code == "" && e.Time.After(lastUsed[e.KeyID]) {
			lastUsed[e.KeyID] = e.Time
		}
	}
	return keys.Touch(ctx, lastUsed)
}

// requests returns a week of requests with the keys, oldest first.
func requests(now time.Time, keys []auth.Record) (entries []apilog.Entry) {
	random := rand.New(rand.NewPCG(1, 2))
	routes := []struct {
		method, route, path string
		status              int
	}{
		{"GET", "GET /api/v1/documents", "/api/v1/documents", 200},
		{"GET", "GET /api/v1/documents/{id}", "/api/v1/documents/doc_%d", 200},
		{"GET", "GET /api/v1/documents/{id}", "/api/v1/documents/doc_%d", 200},
		{"POST", "POST /api/v1/documents", "/api/v1/documents", 201},
		{"GET", "GET /api/v1/templates", "/api/v1/templates", 200},
		{"DELETE", "DELETE /api/v1/documents/{id}", "/api/v1/documents/doc_%d", 204},
	}
	for minute := range 7 * 24 * 60 {
		at := now.Add(-7*day + time.Duration(minute)*time.Minute)
		daytime := 0.2 + 0.8*math.Max(0, math.Sin(float64(at.Hour()-6)*math.Pi/12))
		if random.Float64() > 0.45*daytime {
			continue
		}
		at = at.Add(time.Duration(random.IntN(60_000_000)) * time.Microsecond)
		key := keys[[]int{0, 0, 0, 0, 0, 1, 1, 2, 3, 4}[random.IntN(10)]]
		route := routes[random.IntN(len(routes))]
		path := route.path
		if route.method != "POST" && route.route != "GET /api/v1/documents" && route.route != "GET /api/v1/templates" {
			path = fmt.Sprintf(route.path, 1000+random.IntN(50))
		}
		e := apilog.Entry{
			ID: apilog.NewID(at), Time: at, Duration: time.Duration(3000+random.IntN(60_000)) * time.Microsecond,
			KeyID: key.ID, Owner: key.Owner, Method: route.method, Route: route.route, Path: path, Status: route.status,
			RequestBytes: int64(random.IntN(900)), ResponseBytes: int64(200 + random.IntN(5000)),
			RequestID: fmt.Sprintf("req_%08x", random.Uint32()), UserAgent: "acme-backend/2.4",
			RemoteAddr: netip.MustParseAddr([]string{"198.51.100.17", "198.51.100.18", "203.0.113.5"}[random.IntN(3)]),
		}
		switch {
		case key.Name == "Old website" && at.After(key.ExpiresAt):
			e.Status, e.Code, e.UserAgent = 401, "KEY_EXPIRED", "curl/7.81.0"
		case random.IntN(40) == 0:
			e.Status = 404
		case random.IntN(60) == 0:
			e.Status, e.Code = 403, "INSUFFICIENT_SCOPE"
		case random.IntN(120) == 0:
			e.Status, e.Code = 429, "RATE_LIMITED"
		case random.IntN(150) == 0:
			e.Status = 503
		}
		entries = append(entries, e)
	}
	return entries
}
