package transfer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// A Checker makes records of rows. Its zero value is not valid; see
// [NewChecker].
type Checker struct {
	keys   *keyring.Keyring
	made   *newRecords
	scheme auth.Scheme
	holds  func(text string) bool
}

// NewChecker returns a Checker for keys of the Scheme, which are imported by
// somebody as in keyring.Manager.Unconfined. In store it looks up keys that may
// be there under another hash. Holds reports whether a text holds a key.
func NewChecker(scheme auth.Scheme, by string, store auth.Store, holds func(text string) bool) *Checker {
	made := &newRecords{known: store}
	keys := keyring.NewManager(made, &keyring.Options{Scheme: scheme}).Unconfined(by)
	return &Checker{keys: keys, made: made, scheme: scheme, holds: holds}
}

// newRecords is a store that keeps nothing but the last new record. So what
// Create checks is checked here too.
type newRecords struct {
	keyring.Store // nil: Create calls no other method
	known         auth.Store
	first         auth.Hash // of the key, under which the database tells itself
	last          *auth.Record
}

func (s *newRecords) Insert(_ context.Context, r *auth.Record) error {
	s.last = r
	return nil
}

func (s *newRecords) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	if hash == s.first {
		return nil, auth.ErrNotFound
	}
	return s.known.Lookup(ctx, hash)
}

// Actor returns who imports, as events name it, or an error if nobody can be
// called so.
func (c *Checker) Actor(ctx context.Context) (string, error) {
	if _, _, err := c.keys.Create(ctx, keyring.Spec{Name: "nothing"}); err != nil {
		return "", err
	}
	return c.made.last.CreatedBy, nil
}

// Record returns the record of a row. That of a complete row is as the row says
// it, with an ID that package keyring finds. Any other row is a new key, which is checked as keyring.Keyring.Create
// checks it; it needs an owner and a scope, too.
//
// The error is a *LineError, or comes from the store.
func (c *Checker) Record(ctx context.Context, row *Row) (*auth.Record, error) {
	if row.Complete() && row.Key == "" {
		if n := len(row.Record.ID); n > maxText { // package keyring finds no such key
			return nil, &LineError{Line: row.Line,
				Reason: fmt.Sprintf("id has %d bytes; at most %d are permitted, since nobody could revoke the key", n, maxText)}
		}
		return &row.Record, nil
	}
	r, err := c.newRecord(ctx, row)
	if problem, ok := errors.AsType[*problem](err); ok {
		return nil, &LineError{Line: row.Line, Reason: problem.text}
	}
	return r, err
}

// A problem is one of a row.
type problem struct{ text string }

func (p *problem) Error() string { return p.text }

func wrong(format string, args ...any) error { return &problem{fmt.Sprintf(format, args...)} }

const maxText = 255 // bytes of a text, as in package keyring

func (c *Checker) newRecord(ctx context.Context, row *Row) (*auth.Record, error) {
	given := &row.Record
	for _, column := range columns[:numExported] {
		if column.kind != textKind {
			continue
		}
		switch text := *column.text(given); {
		case len(text) > maxText:
			return nil, wrong("%s has %d bytes; at most %d are permitted", column.name, len(text), maxText)
		case c.holds(text):
			return nil, wrong("%s holds a key", column.name)
		}
	}
	for name, value := range given.Metadata {
		if c.holds(name) || c.holds(value) {
			return nil, wrong("metadata holds a key")
		}
	}
	for _, s := range given.Scopes {
		if c.holds(string(s)) {
			return nil, wrong("scopes hold a key")
		}
	}
	switch {
	case strings.TrimSpace(given.Owner) == "":
		return nil, wrong("owner is blank")
	case len(given.Scopes) == 0:
		return nil, wrong("scopes are empty: the key could do nothing")
	}
	spec := keyring.Spec{Name: given.Name, Owner: given.Owner, Scopes: given.Scopes, Metadata: given.Metadata}
	if given.CreatedAt.IsZero() { // otherwise it may have expired since
		spec.ExpiresAt = given.ExpiresAt
	}
	c.made.last = nil
	if row.Key != "" {
		key, err := c.scheme.ParseKey(row.Key)
		if err != nil {
			return nil, wrong("key is not a key of this API: its prefix, its length or a character is another")
		}
		spec.Key, c.made.first = key, c.scheme.Hashes(key)[0]
	}
	if _, _, err := c.keys.Create(ctx, spec); err != nil {
		return nil, c.reason(err)
	}
	r := c.made.last
	c.complete(r, row)
	return r, nil
}

// complete sets the fields of a new record that the row has and Create does not
// know.
func (c *Checker) complete(r *auth.Record, row *Row) {
	given := &row.Record
	if row.Key == "" {
		r.Hash, r.Hint = given.Hash, ""
	}
	if given.ID != "" {
		r.ID, r.Chain = given.ID, given.ID
	}
	for i, column := range columns[:numExported] {
		if !row.filled.contains(i) {
			continue
		}
		switch column.kind {
		case textKind:
			*column.text(r) = *column.text(given)
		case timeKind:
			*column.time(r) = column.time(given).Truncate(time.Microsecond)
		case revisionKind:
			r.Revision = given.Revision
		}
	}
}

// reason returns what is said of an error of Create, without texts of the row.
func (c *Checker) reason(err error) error {
	if errors.Is(err, keyring.ErrExists) {
		return wrong("the key is in the database already")
	}
	argument, ok := errors.AsType[*keyring.ArgumentError](err)
	if !ok {
		return err
	}
	name := strings.ToLower(argument.Field[:min(1, len(argument.Field))]) + argument.Field[min(1, len(argument.Field)):]
	if argument.Field == "Actor" {
		return err // it is no problem of the row
	}
	if n, err := strconv.Atoi(argument.Element); err == nil && argument.Field == "Scopes" {
		if c.scheme.Catalog != nil {
			return wrong("scope %d is invalid, or is not in the catalog", n+1)
		}
		return wrong("scope %d is invalid", n+1)
	}
	return wrong("%s: %s", name, argument.Reason)
}
