package keyapi_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

const andCreated = `{"andCreated":true}`

func (s *server) status(id string) string {
	s.t.Helper()
	if s.record(id).RevokedAt.IsZero() {
		return "active"
	}
	return "revoked"
}

func TestRevokeAndCreated(t *testing.T) {
	s := newServer(t)
	admin := s.client("acme", "*")
	leaked := admin.create(`{"name":"leaked","scopes":["*"]}`)
	child := leaked.create(`{"name":"child","scopes":["*"]}`)
	grandchild := child.create(`{"name":"grandchild","scopes":["*"]}`)
	a := leaked.do("POST", "/self/rotate", `{"graceSeconds":60}`).is(201)
	self := &client{s, a.str("id"), a.str("key")}
	ofSelf := self.create(`{"name":"of its successor"}`)
	stolen := admin.create(`{"name":"rotated by the leaked key"}`)
	a = leaked.do("POST", "/"+stolen.id+"/rotate", "").is(201)
	taken := a.str("id")
	deleted := leaked.create(`{"name":"deleted","scopes":["*"]}`)
	ofDeleted := deleted.create(`{"name":"of the deleted"}`)
	leaked.do("DELETE", "/"+deleted.id, "").is(204)

	before := admin.create(`{"name":"before"}`)
	want := []string{leaked.id, child.id, grandchild.id, self.id, ofSelf.id, taken, ofDeleted.id}
	for range 2 { // it can be repeated
		a = admin.do("POST", "/"+leaked.id+"/revoke", andCreated).is(200)
		var got []string
		for _, id := range a.body["revokedKeys"].([]any) {
			got = append(got, id.(string))
		}
		equal(t, "first of revokedKeys", got[0], leaked.id)
		same(t, "revokedKeys", slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want)))
		equal(t, "status", a.str("status"), "revoked")
		for _, id := range want {
			equal(t, "status of "+s.record(id).Name, s.status(id), "revoked")
		}
	}
	for _, c := range []*client{admin, before, stolen} {
		equal(t, "status of "+s.record(c.id).Name, s.status(c.id), "active")
	}
}

// The successor that somebody else rotated a leaked key into is the one that is
// in use now.
func TestRevokeAndCreatedSparesSuccessor(t *testing.T) {
	s := newServer(t)
	admin := s.client("acme", "*")
	leaked := admin.create(`{"name":"leaked","scopes":["a"]}`)
	successor := admin.do("POST", "/"+leaked.id+"/rotate", `{"graceSeconds":60}`).is(201).str("id")
	a := admin.do("POST", "/"+leaked.id+"/revoke", andCreated).is(200)
	same(t, "revokedKeys", a.body["revokedKeys"], []string{leaked.id})
	equal(t, "status of the successor", s.status(successor), "active")
}

func TestRevokeOnly(t *testing.T) {
	s := newServer(t)
	admin := s.client("acme", "*")
	leaked := admin.create(`{"name":"leaked","scopes":["*"]}`)
	child := leaked.create(`{"name":"child"}`)
	for _, body := range []string{"", `{}`, `{"andCreated":false}`} {
		a := admin.do("POST", "/"+leaked.id+"/revoke", body).is(200)
		same(t, body+": revokedKeys", a.body["revokedKeys"], nil)
		equal(t, body+": status of what it created", s.status(child.id), "active")
	}
	for _, body := range []string{`{"andCreated":1}`, `{"andCreated":"true"}`, `{"andCreated":null}`} {
		admin.do("POST", "/"+child.id+"/revoke", body).refused(body, 400, "INVALID_REQUEST", "/andCreated")
	}
	admin.do("POST", "/"+child.id+"/revoke", `{"andcreated":true}`).refused("another name", 400, "INVALID_REQUEST",
		"/andcreated")
	equal(t, "status after refusals", s.status(child.id), "active")
}

// A leaked key deletes itself, so that nobody finds what it created.
func TestRevokeAndCreatedOfDeleted(t *testing.T) {
	s := newServer(t)
	admin := s.client("acme", "*")
	leaked := admin.create(`{"name":"leaked","scopes":["*"]}`)
	child := leaked.create(`{"name":"child"}`)
	leaked.do("DELETE", "/"+leaked.id, "").is(204)
	admin.do("POST", "/"+leaked.id+"/revoke", "").refused("without andCreated", 404, "NOT_FOUND", "id")
	s.client("globex", "*").do("POST", "/"+leaked.id+"/revoke", andCreated).refused("by another owner", 404, "NOT_FOUND",
		"id")
	admin.do("POST", "/unknown/revoke", andCreated).refused("unknown", 404, "NOT_FOUND", "id")
	s.store.events = func(keyring.EventQuery) ([]keyring.Event, error) { return nil, errors.New("away") }
	admin.do("POST", "/"+leaked.id+"/revoke", andCreated).refused("in an outage", 503, "STORE_UNAVAILABLE", "")
	s.store.events = nil
	a := admin.do("POST", "/"+leaked.id+"/revoke", andCreated).is(200)
	same(t, "revokedKeys", a.body["revokedKeys"], []string{child.id})
	equal(t, "name", a.str("name"), "leaked")
	equal(t, "status", a.str("status"), "revoked")
	equal(t, "status of what it created", s.status(child.id), "revoked")

	admin.do("DELETE", "/"+child.id, "").is(204)
	a = admin.do("POST", "/"+child.id+"/revoke", andCreated).is(200)
	same(t, "revokedKeys of a key that created none", a.body["revokedKeys"], []string{})
}

// A leaked key creates another one each time somebody looks.
func TestRevokeAndCreatedWhileCreating(t *testing.T) {
	s := newServer(t)
	admin := s.client("acme", "*")
	leaked := admin.create(`{"name":"leaked","scopes":["*"]}`)
	leaked.create(`{"name":"child"}`)
	var late []string
	s.store.list = func(q keyring.Query) ([]*auth.Record, error) {
		page, err := s.store.MemoryStore.List(context.Background(), q)
		if q.CreatedBy == leaked.id && len(late) < 3 { // it was let in before it was revoked
			keys := s.manager.For(keyring.Actor{Name: leaked.id, Owner: "acme", Scopes: auth.Scopes{"*"}})
			r, _, err := keys.Create(context.Background(), keyring.Spec{Name: "late"})
			must(t, err)
			late = append(late, r.ID)
		}
		return page, err
	}
	a := admin.do("POST", "/"+leaked.id+"/revoke", andCreated).is(200)
	equal(t, "number of revokedKeys", len(a.body["revokedKeys"].([]any)), 5)
	for _, id := range late {
		equal(t, "status of a late key", s.status(id), "revoked")
	}
}

func TestRevokeAndCreatedWithoutEvents(t *testing.T) {
	s := newServer(t)
	s.store.events = func(keyring.EventQuery) ([]keyring.Event, error) { return nil, errors.ErrUnsupported }
	admin := s.client("acme", "*")
	leaked := admin.create(`{"name":"leaked","scopes":["*"]}`)
	child := leaked.create(`{"name":"child"}`)
	a := admin.do("POST", "/"+leaked.id+"/revoke", andCreated).is(200)
	same(t, "revokedKeys", a.body["revokedKeys"], []string{leaked.id, child.id})
	admin.do("POST", "/unknown/revoke", andCreated).refused("unknown", 404, "NOT_FOUND", "id")
}

// A failure spares no other key, and the answer says what is done.
func TestRevokeAndCreatedFails(t *testing.T) {
	s := newServer(t)
	admin := s.client("acme", "*")
	leaked := admin.create(`{"name":"leaked","scopes":["*"]}`)
	stuck := leaked.create(`{"name":"stuck","scopes":["*"]}`)
	child := leaked.create(`{"name":"child"}`)
	ofStuck := stuck.create(`{"name":"of stuck"}`)
	s.store.update = func(r, successor *auth.Record) error {
		if r.ID == stuck.id {
			return errors.New("row 7 is locked")
		}
		return s.store.MemoryStore.Update(context.Background(), r, successor)
	}
	a := admin.do("POST", "/"+leaked.id+"/revoke", andCreated)
	a.refused("first", 503, "STORE_UNAVAILABLE", "")
	same(t, "revokedKeys", a.body["revokedKeys"], []string{leaked.id, child.id, ofStuck.id})
	contains(t, "answer", a.text, "row 7", false)
	contains(t, "log", s.log.String(), "row 7 is locked", true)
	s.store.update = nil
	a = admin.do("POST", "/"+leaked.id+"/revoke", andCreated).is(200)
	equal(t, "number of revokedKeys", len(a.body["revokedKeys"].([]any)), 4)
	equal(t, "status of stuck", s.status(stuck.id), "revoked")
}

// An unreadable row that the key created is reported, and spares no other key.
func TestRevokeAndCreatedWithUnreadableRow(t *testing.T) {
	s := newServer(t)
	s.store.events = func(keyring.EventQuery) ([]keyring.Event, error) { return nil, errors.ErrUnsupported }
	admin := s.client("acme", "*")
	leaked := admin.create(`{"name":"leaked","scopes":["*"]}`)
	child := leaked.create(`{"name":"child"}`)
	s.store.list = func(q keyring.Query) ([]*auth.Record, error) {
		page, err := s.store.MemoryStore.List(context.Background(), q)
		if q.CreatedBy == leaked.id {
			err = &keyring.RecordError{ID: "unread", At: keyring.Position{CreatedAt: epoch, ID: "unread"},
				Err: errors.New("bad JSON")}
		}
		return page, err
	}
	a := admin.do("POST", "/"+leaked.id+"/revoke", andCreated)
	a.refused("unreadable", 500, "INTERNAL_ERROR", "")
	same(t, "revokedKeys", a.body["revokedKeys"], []string{leaked.id, child.id})
	equal(t, "status of the other", s.status(child.id), "revoked")
}

// The record of the key is made after the API has looked for it.
func TestRevokeAndCreatedOfNewKey(t *testing.T) {
	s := newServer(t, actAs)
	c := &client{s: s}
	key := c.create(`{"name":"key"}`)
	gone := true
	s.store.get = func(id string) (*auth.Record, error) {
		if gone {
			gone = false
			return nil, auth.ErrNotFound
		}
		return s.store.MemoryStore.Get(context.Background(), id)
	}
	s.store.events = func(keyring.EventQuery) ([]keyring.Event, error) { return nil, nil }
	a := c.do("POST", "/"+key.id+"/revoke", andCreated).is(200)
	equal(t, "name", a.str("name"), "key")
	equal(t, "status", a.str("status"), "revoked")
}

// An event that cannot be read ends the list of events, so no answer shows a
// part of it as the whole.
func TestUnreadableEvent(t *testing.T) {
	s := newServer(t, actAs)
	c := &client{s: s}
	key := c.create(`{"name":"key"}`)
	c.do("DELETE", "/"+key.id, "").is(204)
	s.store.events = func(keyring.EventQuery) ([]keyring.Event, error) {
		return nil, &keyring.RecordError{ID: "7", Err: errors.New("bad JSON")}
	}
	c.do("GET", "/events", "").refused("all events", 500, "INTERNAL_ERROR", "")
	c.do("GET", "/"+key.id+"/events", "").refused("events of a key", 500, "INTERNAL_ERROR", "")
	c.do("POST", "/"+key.id+"/revoke", andCreated).refused("revoke", 500, "INTERNAL_ERROR", "")
	contains(t, "log", s.log.String(), "bad JSON", true)
}
