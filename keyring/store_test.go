package keyring_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

func TestSentinelsDiffer(t *testing.T) {
	all := []error{keyring.ErrExists, keyring.ErrConflict, keyring.ErrRotated, keyring.ErrTooManyKeys,
		keyring.ErrInvalidArgument}
	for i, a := range all {
		equal(t, "begins with the package", strings.HasPrefix(a.Error(), "keyring: "), true)
		for j, b := range all {
			equal(t, fmt.Sprintf("%v is %v", a, b), errors.Is(a, b), i == j)
		}
	}
}

func TestExistsError(t *testing.T) {
	r := numbered(1)
	r.ID = "key\n1"
	var err error = &keyring.ExistsError{Record: r}
	fails(t, "ExistsError", err, keyring.ErrExists, "")
	equal(t, "text", err.Error(), `keyring: the key exists already: key\n1 (isk_…U1v2)`)
	equal(t, "hash in %+v", strings.Contains(fmt.Sprintf("%+v %#v", err, err), r.Hash.String()), false)
}

// TestArgumentError has one call for each argument that a Keyring can refuse.
func TestArgumentError(t *testing.T) {
	manager, store := newManager(&keyring.Options{Scheme: auth.Scheme{Catalog: auth.Catalog{
		{Scope: "*"}, {Scope: "a"}, {Scope: "b"}, {Scope: "c"}}}})
	mayAB := manager.For(holding("a", "b"))
	staff := manager.Unconfined("staff")
	r := numbered(1)
	r.Scopes = auth.Scopes{"a", "c"}
	r.ExpiresAt = time.Now().Add(day)
	id := put(t, store, r).ID

	long := strings.Repeat("x", 256)
	spec := func(change func(s *keyring.Spec)) func() error {
		return func() error {
			s := keyring.Spec{Name: "key"}
			change(&s)
			_, _, err := mayAB.Create(ctx, s)
			return err
		}
	}
	update := func(change func(r *auth.Record)) func() error {
		return func() error {
			_, err := mayAB.Update(ctx, id, func(r *auth.Record) error { change(r); return nil })
			return err
		}
	}
	list := func(f keyring.Filter) func() error { return func() error { return firstError(mayAB.List(ctx, f)) } }
	events := func(f keyring.EventFilter) func() error {
		return func() error { return firstError(mayAB.Events(ctx, f)) }
	}
	rotate := func(grace time.Duration) func() error {
		return func() error { _, _, err := mayAB.Rotate(ctx, id, grace); return err }
	}
	actor := func(a keyring.Actor) func() error {
		return func() error { _, err := manager.For(a).Get(ctx, id); return err }
	}
	for _, c := range []struct {
		what           string
		call           func() error
		field, element string
		want           error
		reason         string
	}{
		{"name", spec(func(s *keyring.Spec) { s.Name = " " }), "Name", "", keyring.ErrInvalidArgument, "the name is blank"},
		{"long name", spec(func(s *keyring.Spec) { s.Name = long }), "Name", "", keyring.ErrInvalidArgument,
			"the name has 256 bytes; at most 255 are permitted"},
		{"owner", spec(func(s *keyring.Spec) { s.Owner = "globex" }), "Owner", "", keyring.ErrInvalidArgument,
			"the owner is not that of the actor"},
		{"unlisted scope", spec(func(s *keyring.Spec) { s.Scopes = auth.Scopes{"a", "d"} }), "Scopes", "1",
			keyring.ErrInvalidArgument, `the catalog does not list the scope "d"`},
		{"invalid scope", spec(func(s *keyring.Spec) { s.Scopes = auth.Scopes{"a", "b", ""} }), "Scopes", "2",
			keyring.ErrInvalidArgument, `"" is not a valid scope`},
		{"scopes", spec(func(s *keyring.Spec) { s.Scopes = make(auth.Scopes, 257) }), "Scopes", "",
			keyring.ErrInvalidArgument, "the key has 257 scopes; at most 256 are permitted"},
		{"scope of others", spec(func(s *keyring.Spec) { s.Scopes = auth.Scopes{"a", "b", "c"} }), "Scopes", "2",
			auth.ErrInsufficientScope, `the actor does not hold the scope "c"`},
		{"expiry", spec(func(s *keyring.Spec) { s.ExpiresAt = epoch.Add(-day) }), "ExpiresAt", "",
			keyring.ErrInvalidArgument, "the expiry is not in the future"},
		{"metadata value", spec(func(s *keyring.Spec) { s.Metadata = map[string]string{"a": "", "b/c": "\x00"} }),
			"Metadata", "b/c", keyring.ErrInvalidArgument, "the metadata is not valid UTF-8, or holds a NUL"},
		{"metadata key", spec(func(s *keyring.Spec) { s.Metadata = map[string]string{"\xff": ""} }), "Metadata", "\xff",
			keyring.ErrInvalidArgument, "the metadata is not valid UTF-8, or holds a NUL"},
		{"metadata", spec(func(s *keyring.Spec) { s.Metadata = map[string]string{"a": strings.Repeat("x", 16<<10)} }),
			"Metadata", "", keyring.ErrInvalidArgument, "the metadata has 16385 bytes; at most 16384 are permitted"},
		{"key", spec(func(s *keyring.Spec) { s.Key = auth.Scheme{}.NewKey() }), "Key", "", keyring.ErrInvalidArgument,
			"this Keyring does not take a Spec.Key"},
		{"new name", update(func(r *auth.Record) { r.Name = "\x00" }), "Name", "", keyring.ErrInvalidArgument,
			"the name is not valid UTF-8, or holds a NUL"},
		{"added scope", update(func(r *auth.Record) { r.Scopes = auth.Scopes{"c", "b", "*"} }), "Scopes", "2",
			auth.ErrInsufficientScope, `the actor does not hold the scope "*"`},
		{"later expiry", update(func(r *auth.Record) { r.ExpiresAt = r.ExpiresAt.Add(day) }), "ExpiresAt", "",
			auth.ErrInsufficientScope, `the actor does not hold the scope "c"`},
		{"hint", update(func(r *auth.Record) { r.Hint = "" }), "Hint", "", keyring.ErrInvalidArgument,
			"Update does not change Hint"},
		{"revision", update(func(r *auth.Record) { r.Revision = 9 }), "Revision", "", keyring.ErrInvalidArgument,
			"Update sets Revision, UpdatedAt and UpdatedBy itself"},
		{"last use", update(func(r *auth.Record) { r.LastUsedAt = epoch }), "LastUsedAt", "", keyring.ErrInvalidArgument,
			"Update does not change LastUsedAt"},
		{"grace", rotate(-1), "Grace", "", keyring.ErrInvalidArgument,
			"the grace is -1ns; it must be between 0 and 720h0m0s"},
		{"key out of reach", rotate(0), "", "", auth.ErrInsufficientScope, `the actor does not hold the scope "c"`},
		{"filter owner", list(keyring.Filter{Owner: "globex"}), "Owner", "", keyring.ErrInvalidArgument,
			"the owner is not that of the actor"},
		{"filter chain", list(keyring.Filter{Chain: "\xff"}), "Chain", "", keyring.ErrInvalidArgument,
			"the text of the filter is not valid UTF-8, or holds a NUL"},
		{"filter creator", list(keyring.Filter{CreatedBy: "\xff"}), "CreatedBy", "", keyring.ErrInvalidArgument,
			"the text of the filter is not valid UTF-8, or holds a NUL"},
		{"filter text", list(keyring.Filter{Text: "\x00"}), "Text", "", keyring.ErrInvalidArgument,
			"the text of the filter is not valid UTF-8, or holds a NUL"},
		{"filter position", list(keyring.Filter{After: keyring.Position{ID: "\x00"}}), "After", "",
			keyring.ErrInvalidArgument, "the text of the filter is not valid UTF-8, or holds a NUL"},
		{"event filter key", events(keyring.EventFilter{KeyID: "\x00"}), "KeyID", "", keyring.ErrInvalidArgument,
			"the text of the filter is not valid UTF-8, or holds a NUL"},
		{"event filter actor", events(keyring.EventFilter{By: "\x00"}), "By", "", keyring.ErrInvalidArgument,
			"the text of the filter is not valid UTF-8, or holds a NUL"},
		{"event filter kind", events(keyring.EventFilter{Kind: "\x00"}), "Kind", "", keyring.ErrInvalidArgument,
			"the text of the filter is not valid UTF-8, or holds a NUL"},
		{"event filter position", events(keyring.EventFilter{After: "\x00"}), "After", "", keyring.ErrInvalidArgument,
			"the text of the filter is not valid UTF-8, or holds a NUL"},
		{"no owner", actor(keyring.Actor{Name: "ada"}), "Actor", "", keyring.ErrInvalidArgument, "the actor has no owner"},
		{"expired actor", actor(until(epoch.Add(-day))), "Actor", "", keyring.ErrInvalidArgument, "the actor has expired"},
		{"forged actor", actor(keyring.Actor{Name: "staff:ada", Owner: "acme"}), "Actor", "", keyring.ErrInvalidArgument,
			`the name of the actor begins with "staff:"`},
		{"long actor", actor(keyring.Actor{Name: long, Owner: "acme"}), "Actor", "", keyring.ErrInvalidArgument,
			"the name of the actor has 256 bytes; at most 255 are permitted"},
		{"owner of staff", func() error {
			_, _, err := staff.Create(ctx,
				keyring.Spec{Name: "key", Owner: long})
			return err
		}, "Owner", "", keyring.ErrInvalidArgument,
			"the owner has 256 bytes; at most 255 are permitted"},
	} {
		err := c.call()
		refused, ok := errors.AsType[*keyring.ArgumentError](err)
		if !ok {
			t.Errorf("%s: got the error %v, want an ArgumentError", c.what, err)
			continue
		}
		fails(t, c.what, err, c.want, c.reason)
		equal(t, c.what+": field", refused.Field, c.field)
		equal(t, c.what+": element", refused.Element, c.element)
		equal(t, c.what+": reason", refused.Reason, c.reason)
		other := map[error]error{keyring.ErrInvalidArgument: auth.ErrInsufficientScope,
			auth.ErrInsufficientScope: keyring.ErrInvalidArgument}[c.want]
		equal(t, c.what+": matches "+other.Error(), errors.Is(err, other), false)
	}
}

func TestArgumentErrorOfHost(t *testing.T) {
	var err error = &keyring.ArgumentError{Field: "Name", Reason: "the name is taken"}
	fails(t, "ArgumentError", err, keyring.ErrInvalidArgument, "")
	equal(t, "text", err.Error(), "keyring: invalid argument: the name is taken")
}

func TestRecordError(t *testing.T) {
	var err error = &keyring.RecordError{ID: "key\n1", Err: io.ErrUnexpectedEOF}
	fails(t, "RecordError", err, io.ErrUnexpectedEOF, "")
	equal(t, "text", err.Error(), `keyring: record key\n1 cannot be read: unexpected EOF`)
}

func TestStateOf(t *testing.T) {
	past, future := epoch.Add(-1), epoch.Add(1)
	for _, c := range []struct {
		revoked, disabled, expires time.Time
		want                       keyring.States
	}{
		{time.Time{}, time.Time{}, time.Time{}, keyring.Active},
		{time.Time{}, time.Time{}, future, keyring.Active},
		{time.Time{}, time.Time{}, epoch, keyring.Expired},
		{time.Time{}, time.Time{}, past, keyring.Expired},
		{time.Time{}, future, time.Time{}, keyring.Disabled},
		{time.Time{}, past, past, keyring.Disabled},
		{future, time.Time{}, time.Time{}, keyring.Revoked},
		{past, past, past, keyring.Revoked},
	} {
		r := auth.Record{RevokedAt: c.revoked, DisabledAt: c.disabled, ExpiresAt: c.expires}
		equal(t, fmt.Sprintf("%+v", c), keyring.StateOf(&r, epoch), c.want)
	}
}

func TestStatesString(t *testing.T) {
	for _, c := range []struct {
		states keyring.States
		want   string
	}{
		{0, "any"},
		{keyring.Active, "active"},
		{keyring.Disabled | keyring.Active, "active|disabled"},
		{keyring.Revoked | keyring.Expired, "revoked|expired"},
		{16, "States(16)"},
		{255, "active|disabled|revoked|expired|States(240)"},
	} {
		equal(t, fmt.Sprint(uint8(c.states)), c.states.String(), c.want)
	}
}

func TestPosition(t *testing.T) {
	r := numbered(3)
	equal(t, "PositionOf", keyring.PositionOf(&r), keyring.Position{CreatedAt: r.CreatedAt, ID: r.ID})
	for _, c := range []struct {
		position keyring.Position
		want     bool
	}{
		{keyring.Position{}, true},
		{keyring.Position{ID: "a"}, false},
		{keyring.Position{CreatedAt: epoch}, false},
		{keyring.Position{CreatedAt: epoch, ID: "a"}, false},
	} {
		equal(t, fmt.Sprint(c.position), c.position.IsZero(), c.want)
	}
}

func TestQueryMatches(t *testing.T) {
	r := auth.Record{ID: "Key-1", Chain: "key-0", Name: "Größe Production", Owner: "Acme", Hint: "isk_…U1v2",
		CreatedAt: epoch, CreatedBy: "ada", ExpiresAt: epoch.Add(time.Hour)}
	never := r
	never.ExpiresAt = time.Time{}
	at := func(d time.Duration, id string) keyring.Position {
		return keyring.Position{CreatedAt: epoch.Add(d), ID: id}
	}
	for _, c := range []struct {
		name  string
		query keyring.Query
		r     auth.Record
		want  bool
	}{
		{"zero", keyring.Query{}, r, true},
		{"Limit", keyring.Query{Limit: -1}, r, true},
		{"Owner", keyring.Query{Owner: "Acme"}, r, true},
		{"Owner in another case", keyring.Query{Owner: "acme"}, r, false},
		{"beginning of Owner", keyring.Query{Owner: "Acm"}, r, false},
		{"Chain", keyring.Query{Chain: "key-0"}, r, true},
		{"another Chain", keyring.Query{Chain: "Key-1"}, r, false},
		{"CreatedBy", keyring.Query{CreatedBy: "ada"}, r, true},
		{"another CreatedBy", keyring.Query{CreatedBy: "bob"}, r, false},
		{"state", keyring.Query{States: keyring.Active, Now: epoch}, r, true},
		{"state later", keyring.Query{States: keyring.Active, Now: epoch.Add(time.Hour)}, r, false},
		{"two states", keyring.Query{States: keyring.Active | keyring.Expired, Now: epoch.Add(time.Hour)}, r, true},
		{"other states", keyring.Query{States: keyring.Disabled | keyring.Revoked, Now: epoch}, r, false},
		{"unknown bit", keyring.Query{States: 16, Now: epoch}, r, false},
		{"unknown bit and state", keyring.Query{States: 16 | keyring.Active, Now: epoch}, r, true},
		{"expires from", keyring.Query{ExpiresFrom: epoch.Add(time.Hour)}, r, true},
		{"expires from later", keyring.Query{ExpiresFrom: epoch.Add(time.Hour + 1)}, r, false},
		{"expires before", keyring.Query{ExpiresBefore: epoch.Add(time.Hour + 1)}, r, true},
		{"expires before earlier", keyring.Query{ExpiresBefore: epoch.Add(time.Hour)}, r, false},
		{"expires within", keyring.Query{ExpiresFrom: epoch, ExpiresBefore: epoch.Add(2 * time.Hour)}, r, true},
		{"expires in an empty span", keyring.Query{ExpiresFrom: epoch.Add(time.Hour), ExpiresBefore: epoch}, r, false},
		{"never expires, from", keyring.Query{ExpiresFrom: epoch}, never, false},
		{"never expires, before", keyring.Query{ExpiresBefore: epoch}, never, false},
		{"name", keyring.Query{Text: "produc"}, r, true},
		{"name in another case", keyring.Query{Text: "GRÖ"}, r, true},
		{"owner", keyring.Query{Text: "aCME"}, r, true},
		{"ID", keyring.Query{Text: "KEY-1"}, r, true},
		{"hint", keyring.Query{Text: "u1V2"}, r, true},
		{"chain", keyring.Query{Text: "key-0"}, r, false},
		{"creator", keyring.Query{Text: "ada"}, r, false},
		{"across fields", keyring.Query{Text: "productionacme"}, r, false},
		{"wildcards", keyring.Query{Text: "%"}, r, false},
		{"after, by time", keyring.Query{After: at(-1, "z")}, r, true},
		{"after, by ID", keyring.Query{After: at(0, "Key-0")}, r, true},
		{"after itself", keyring.Query{After: at(0, "Key-1")}, r, false},
		{"after a later ID", keyring.Query{After: at(0, "Key-2")}, r, false},
		{"after a later time", keyring.Query{After: at(1, "")}, r, false},
		{"newest first, by time", keyring.Query{NewestFirst: true, After: at(1, "")}, r, true},
		{"newest first, by ID", keyring.Query{NewestFirst: true, After: at(0, "Key-2")}, r, true},
		{"newest first, itself", keyring.Query{NewestFirst: true, After: at(0, "Key-1")}, r, false},
		{"newest first, an earlier time", keyring.Query{NewestFirst: true, After: at(-1, "z")}, r, false},
		{"newest first", keyring.Query{NewestFirst: true}, r, true},
	} {
		equal(t, c.name, c.query.Matches(&c.r), c.want)
	}
}
