package keyring_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

func TestEventOfKind(t *testing.T) {
	type change func(r *auth.Record)
	var (
		none     change = func(r *auth.Record) {}
		rotated  change = func(r *auth.Record) { r.RotatedTo = "next" }
		revoked  change = func(r *auth.Record) { r.RevokedAt = epoch }
		disabled change = func(r *auth.Record) { r.DisabledAt = epoch }
		later    change = func(r *auth.Record) { r.DisabledAt, r.RevokedAt = epoch.Add(1), epoch.Add(1) }
		renamed  change = func(r *auth.Record) { r.Name = "new" }
	)
	both := func(a, b change) change { return func(r *auth.Record) { a(r); b(r) } }
	for _, c := range []struct {
		name          string
		before, after change
		want          keyring.EventKind
	}{
		{"nothing", none, none, ""},
		{"rotated", none, rotated, "rotated"},
		{"rotated before", rotated, rotated, ""},
		{"rotated to another", rotated, func(r *auth.Record) { r.RotatedTo = "other" }, "updated"},
		{"revoked", none, revoked, "revoked"},
		{"revoked before", revoked, revoked, ""},
		{"no longer revoked", revoked, none, "updated"},
		{"disabled", none, disabled, "disabled"},
		{"disabled before", disabled, disabled, ""},
		{"enabled", disabled, none, "enabled"},
		{"other times", both(revoked, disabled), later, "updated"},
		{"rotated and revoked", none, both(rotated, revoked), "rotated"},
		{"revoked and enabled", disabled, revoked, "revoked"},
		{"revoked and disabled", none, both(revoked, disabled), "revoked"},
		{"disabled and renamed", none, both(disabled, renamed), "disabled"},
		{"name", none, renamed, "updated"},
		{"scopes", none, func(r *auth.Record) { r.Scopes = auth.Scopes{"a.x"} }, "updated"},
		{"empty scopes", none, func(r *auth.Record) { r.Scopes = auth.Scopes{} }, ""},
		{"metadata", none, func(r *auth.Record) { r.Metadata = map[string]string{"a": ""} }, "updated"},
		{"empty metadata", none, func(r *auth.Record) { r.Metadata = map[string]string{} }, ""},
		{"expiry", none, func(r *auth.Record) { r.ExpiresAt = epoch }, "updated"},
		{"time zone", none, func(r *auth.Record) { r.CreatedAt = r.CreatedAt.Local() }, ""},
		{"owner, with SQL", none, func(r *auth.Record) { r.Owner = "other" }, "updated"},
		{"hash, with SQL", none, func(r *auth.Record) { r.Hash[0]++ }, "updated"},
		{"hint, with SQL", none, func(r *auth.Record) { r.Hint = "…" }, "updated"},
		{"chain, with SQL", none, func(r *auth.Record) { r.Chain = "other" }, "updated"},
		{"predecessor, with SQL", none, func(r *auth.Record) { r.RotatedFrom = "other" }, "updated"},
		{"creator, with SQL", none, func(r *auth.Record) { r.CreatedBy = "other" }, "updated"},
		{"a use", none, func(r *auth.Record) { r.LastUsedAt = epoch }, ""},
		{"revision alone", none, func(r *auth.Record) { r.Revision, r.UpdatedAt, r.UpdatedBy = 9, epoch, "bob" }, ""},
	} {
		before, after := numbered(1), numbered(1)
		c.before(&before)
		c.after(&after)
		equal(t, c.name, keyring.EventOf(&before, &after, "ada", epoch).Kind, c.want)
	}
}

func TestEventOf(t *testing.T) {
	before, after := numbered(1), numbered(1)
	before.Revision, after.Revision, after.Name = 4, 5, "new"
	at := epoch.Add(12345) // as given, not to the microsecond
	for _, c := range []struct {
		name          string
		before, after *auth.Record
		kind          keyring.EventKind
		revision      int64
	}{
		{"created", nil, &after, keyring.EventCreated, 5},
		{"updated", &before, &after, keyring.EventUpdated, 5},
		{"deleted", &before, nil, keyring.EventDeleted, 4},
	} {
		e := keyring.EventOf(c.before, c.after, "bob", at)
		same(t, c.name, e, keyring.Event{Time: at, Kind: c.kind, KeyID: before.ID, Owner: "acme", By: "bob",
			Revision: c.revision, Before: c.before, After: c.after})
	}
	same(t, "neither", keyring.EventOf(nil, nil, "bob", at), keyring.Event{Time: at, By: "bob"})
}

// The records of an event are copies.
func TestEventOfCopies(t *testing.T) {
	before, after := numbered(1), numbered(1)
	before.Scopes, after.Metadata = auth.Scopes{"a.x"}, map[string]string{"env": "prod"}
	e := keyring.EventOf(&before, &after, "ada", epoch)
	before.Scopes[0], after.Metadata["env"], after.Name = "*", "changed", "changed"
	equal(t, "scope", e.Before.Scopes[0], "a.x")
	equal(t, "metadata", e.After.Metadata["env"], "prod")
	equal(t, "name", e.After.Name, "key")
}

// Neither fmt nor slog prints a hash, and no text of a customer makes a line.
func TestEventPrintsOneLine(t *testing.T) {
	r := numbered(1)
	r.Owner, r.Name = "acme\nlevel=ERROR", "key\u202e\r\nx"
	e := keyring.EventOf(nil, &r, "ada\nlevel=ERROR", epoch)
	want := `created key-0000001 by ada\nlevel=ERROR`
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		equal(t, verb, fmt.Sprintf(verb, e), want)
		equal(t, verb+" of a pointer", fmt.Sprintf(verb, &e), want)
	}
	equal(t, "String", e.String(), want)

	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("event", "event", e)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("event", "event", e)
	equal(t, "lines", strings.Count(out.String(), "\n"), 2)
	equal(t, "hash in the log", strings.Contains(out.String(), r.Hash.String()[:8]), false)
	equal(t, "kind in the log", strings.Contains(out.String(), "event.kind=created event.key=key-0000001"), true)
}

func TestEventJSON(t *testing.T) {
	r := numbered(1)
	e := keyring.EventOf(nil, &r, "ada", epoch)
	e.ID = "7"
	text, err := json.Marshal(e)
	must(t, err)
	equal(t, "JSON", string(text), `{"id":"7","time":"2026-01-02T03:04:05Z","kind":"created",`+
		`"keyId":"key-0000001","owner":"acme",`+
		`"by":"ada","revision":1,"after":{"id":"key-0000001","hint":"isk_…U1v2","name":"key",`+
		`"owner":"acme","scopes":[],`+
		`"createdAt":"2026-01-02T03:04:06Z","createdBy":"ada",`+
		`"updatedAt":"2026-01-02T03:04:06Z","updatedBy":"ada","revision":1,`+
		`"chain":"key-0000001"}}`)
}
