package keyapi_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
)

func TestEvents(t *testing.T) {
	s := newServer(t, func(o *keyapi.Options, _ *keyring.Options) { o.Metadata = []string{"team"} })
	c := s.client("acme", "*")
	key := s.clientWith(keyring.Spec{Name: "old", Owner: "acme", Scopes: auth.Scopes{"a"},
		Metadata: map[string]string{"plan": "gold"}})
	path := "/" + key.id
	c.do("PATCH", path,
		`{"name":"new","scopes":["b"],"expiresAt":"2999-01-01T00:00:00Z","metadata":{"team":"red"}}`).is(200)
	_, err := s.manager.Unconfined("sam").Update(context.Background(), key.id,
		func(r *auth.Record) error { r.Metadata["plan"] = "free"; return nil })
	must(t, err)
	disabled := c.do("POST", path+"/disable", "").is(200)
	c.do("POST", path+"/enable", "").is(200)
	successor := c.do("POST", path+"/rotate", `{"graceSeconds":60}`).is(201)
	rotated := c.do("GET", path, "").is(200)
	revoked := c.do("POST", path+"/revoke", "").is(200)
	c.do("DELETE", path, "").is(204)

	type change = map[string]any
	const end = "2999-01-01T00:00:00Z"
	want := []struct {
		kind, by string
		changes  map[string]any
	}{
		{"deleted", c.id, change{"name": change{"from": "new", "to": nil}, "scopes": change{"from": []string{"b"}, "to": nil},
			"expiresAt": change{"from": rotated.body["expiresAt"], "to": nil},
			"rotatedTo": change{"from": successor.str("id"), "to": nil},
			"revokedAt": change{"from": revoked.body["revokedAt"], "to": nil},
			"metadata":  change{"from": change{"team": "red"}, "to": nil}}},
		{"revoked", c.id, change{"revokedAt": change{"from": nil, "to": revoked.body["revokedAt"]}}},
		{"rotated", c.id, change{"expiresAt": change{"from": end, "to": rotated.body["expiresAt"]},
			"rotatedTo": change{"from": nil, "to": successor.str("id")}}},
		{"enabled", c.id, change{"disabledAt": change{"from": disabled.body["disabledAt"], "to": nil}}},
		{"disabled", c.id, change{"disabledAt": change{"from": nil, "to": disabled.body["disabledAt"]}}},
		{"updated", "Support", change{}},
		{"updated", c.id, change{"name": change{"from": "old", "to": "new"},
			"scopes":    change{"from": []string{"a"}, "to": []string{"b"}},
			"expiresAt": change{"from": nil, "to": end}, "metadata": change{"from": change{}, "to": change{"team": "red"}}}},
		{"created", "Support", change{"name": change{"from": nil, "to": "old"},
			"scopes":   change{"from": nil, "to": []string{"a"}},
			"metadata": change{"from": nil, "to": change{}}}},
	}
	a := c.do("GET", path+"/events", "").is(200)
	equal(t, "number of events", len(a.data()), len(want))
	for i, e := range a.data() {
		what := fmt.Sprintf("event %d", i)
		same(t, what+": members", slices.Sorted(maps.Keys(e)), []string{"by", "changes", "id", "keyId", "kind", "time"})
		same(t, what+": kind", e["kind"], want[i].kind)
		same(t, what+": by", e["by"], want[i].by)
		same(t, what+": keyId", e["keyId"], key.id)
		same(t, what+": changes", e["changes"], want[i].changes)
	}
	for _, hidden := range []string{"gold", "free", "sam", "staff:"} {
		contains(t, "events", a.text, hidden, false)
	}
	all := c.do("GET", "/events", "").is(200)
	equal(t, "number of all events", len(all.data()), len(want)+2)

	ids, pages := c.all(path + "/events?limit=3")
	same(t, "pages", pages, []int{3, 3, 2})
	same(t, "IDs", ids, a.ids())
	ids, _ = c.all("/events?limit=2&kind=updated")
	same(t, "updates", ids, []string{a.ids()[5], a.ids()[6]})

	at := a.data()[3]["time"].(string)
	later := c.do("GET", "/events?limit=200&from="+at, "").is(200).ids()
	earlier := c.do("GET", "/events?limit=200&to="+at, "").is(200).ids()
	same(t, "events until and from a time", append(later, earlier...), all.ids())
}

func TestEventsOfDatabase(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	s.store.events = func(q keyring.EventQuery) ([]keyring.Event, error) {
		if q.After != "" {
			return nil, nil
		}
		var events []keyring.Event
		for i, by := range []string{"sql:postgres", "staff:sam", "staff", "SQL:x", "ada", ""} {
			events = append(events, keyring.Event{ID: fmt.Sprint(i), Time: epoch, Kind: keyring.EventUpdated, KeyID: "k",
				Owner: q.Owner, By: by,
				After: &auth.Record{Owner: q.Owner, Name: "of another owner before"}})
		}
		return events, nil
	}
	var by []any
	for _, e := range c.do("GET", "/events", "").is(200).data() {
		by = append(by, e["by"])
		same(t, "changes of records that are not shown", e["changes"], map[string]any{})
	}
	same(t, "by", by, []string{"Support", "Support", "staff", "SQL:x", "ada", ""})
}

func TestEventsUnsupported(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	s.store.events = func(keyring.EventQuery) ([]keyring.Event, error) { return nil, errors.ErrUnsupported }
	c.do("GET", "/events", "").refused("events", 501, "NOT_IMPLEMENTED", "")
	c.do("GET", "/"+c.id+"/events", "").refused("events of a key", 501, "NOT_IMPLEMENTED", "")
}

func TestEventsNotFound(t *testing.T) {
	s := newServer(t)
	ada, bob := s.client("acme", "*"), s.client("globex", "*")
	ada.do("GET", "/"+bob.id+"/events", "").refused("another owner's", 404, "NOT_FOUND", "id")
	ada.do("GET", "/unknown/events", "").refused("unknown", 404, "NOT_FOUND", "id")
}

// The events that a store keeps may not reach back to the cursor.
func TestOldEventCursor(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	c.create(`{"name":"key"}`)
	c.do("PATCH", "/"+c.id, `{"name":"new"}`).is(200)
	for _, path := range []string{"/events", "/" + c.id + "/events"} {
		cursor := c.do("GET", path+"?limit=1", "").is(200).meta()["nextCursor"].(string)
		s.store.events = func(q keyring.EventQuery) ([]keyring.Event, error) {
			if q.After != "" {
				return nil, auth.ErrNotFound
			}
			return s.store.MemoryStore.Events(context.Background(), q)
		}
		c.do("GET", path+"?limit=1&cursor="+cursor, "").refused(path, 400, "INVALID_REQUEST", "cursor")
		s.store.events = nil
	}
}
