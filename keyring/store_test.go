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
