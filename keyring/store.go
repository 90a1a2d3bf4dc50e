package keyring

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/insigner/auth"
)

// Errors of a [Store] or a [Keyring]. Match them with [errors.Is].
var (
	// ErrExists means that the ID or the hash of a new key is taken. Of a
	// repeated Create with Spec.Once the error is an *ExistsError as well.
	ErrExists = errors.New("keyring: the key exists already")

	// ErrConflict means that somebody else changed the key at the same time.
	ErrConflict = errors.New("keyring: the key was changed at the same time")

	// ErrRotated means that the key has a successor already. So it can neither
	// be rotated again nor be extended.
	ErrRotated = errors.New("keyring: the key has been rotated already")

	// ErrTooManyKeys means that the owner has as many keys as Options.MaxKeys
	// permits.
	ErrTooManyKeys = errors.New("keyring: too many keys")

	// ErrInvalidArgument means that the caller asked for something that cannot
	// be, such as a key without a name. The text says what it is. It can be
	// shown to the person who asked. The error is an *ArgumentError as well.
	ErrInvalidArgument = errors.New("keyring: invalid argument")
)

// An ExistsError is the answer to a second Create by an owner with the same
// Spec.Once. It matches [ErrExists].
type ExistsError struct {
	Record auth.Record // that of the first Create, as it is now
}

// Error names the key by its ID and its hint.
func (e *ExistsError) Error() string { return ErrExists.Error() + ": " + e.Record.String() }

// Unwrap returns [ErrExists].
func (e *ExistsError) Unwrap() error { return ErrExists }

// An ArgumentError says which argument of a [Keyring] was refused. It matches
// [ErrInvalidArgument], or [auth.ErrInsufficientScope] if it is a scope that
// the actor does not hold.
type ArgumentError struct {
	// Field is the field of Spec, auth.Record, Filter or EventFilter, such as
	// "Name", or "Grace". It is "Actor" if the actor can do nothing at all. It
	// is empty if the key itself has a scope that the actor does not hold.
	Field string

	// Element is the part of the field: the position of a scope, from "0", or
	// the key of an entry of the metadata. If empty, it is the whole field.
	Element string

	// Reason says what is wrong. It can be shown to the person who asked.
	Reason string

	sentinel error // if nil, ErrInvalidArgument
}

// Error returns the reason.
func (e *ArgumentError) Error() string {
	if e.sentinel != nil {
		return e.Reason
	}
	return ErrInvalidArgument.Error() + ": " + e.Reason
}

// Unwrap returns the error that e matches.
func (e *ArgumentError) Unwrap() error {
	if e.sentinel != nil {
		return e.sentinel
	}
	return ErrInvalidArgument
}

// invalid returns an ArgumentError about a field.
func invalid(field, format string, args ...any) *ArgumentError {
	return &ArgumentError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// A Store keeps the records that a [Manager] manages. It keeps what it is given
// and decides nothing: whether a key is good is for [auth.Record.Check] to say,
// and who may change it is for a [Keyring]. It must be safe for concurrent use.
//
// Times keep at least their microseconds; the time zone need not be kept.
//
// A record that is passed in or returned must not be modified afterwards,
// neither by the Store nor by its caller. A method that returns an error has
// changed nothing, or cannot know whether it has, as after a lost connection.
//
// A [MemoryStore] is a Store, and so are those of module sqlstore. Package
// authtest has a test suite for your own.
type Store interface {
	auth.Store

	// Insert adds r as it is, its Revision too. If its ID or its Hash is taken,
	// the error matches ErrExists. A record without an ID is an error.
	Insert(ctx context.Context, r *auth.Record) error

	// Get returns the record with that ID. If no record has it, the error matches
	// auth.ErrNotFound.
	Get(ctx context.Context, id string) (*auth.Record, error)

	// List returns the records that q selects, at most q.Limit of them, in the
	// order of their CreatedAt and then, byte by byte, of their ID. A page
	// shorter than q.Limit is the last one. A Limit below 1 is an error.
	//
	// If some rows cannot be read, List returns the others together with an
	// error that joins a *RecordError for each of them and holds nothing else.
	// These rows count toward Limit.
	List(ctx context.Context, q Query) ([]*auth.Record, error)

	// Update stores r if the stored Revision is r.Revision-1, and inserts
	// successor if it is not nil: both or neither. It stores neither LastUsedAt
	// nor a change of ID, Hash, Owner, CreatedAt or CreatedBy. Success means
	// that exactly one row was written, and the successor if there is one.
	//
	// The error matches
	//   - auth.ErrNotFound if there is no record with that ID,
	//   - ErrConflict if the stored Revision is another,
	//   - ErrExists if the ID or the Hash of successor is taken.
	Update(ctx context.Context, r, successor *auth.Record) error

	// Delete removes the record with that ID. Its events stay. If there is
	// none, the error matches auth.ErrNotFound. The event of the deletion names
	// by.
	Delete(ctx context.Context, id, by string) error

	// Touch sets the LastUsedAt of each record, by ID, to the given time if
	// that is later. It skips an ID that it does not hold. It makes neither a
	// revision nor an event, and watchers are not told. The map may be nil, and
	// of any size.
	Touch(ctx context.Context, lastUsed map[string]time.Time) error

	// Events returns the changes that q selects, newest first, at most q.Limit
	// of them. A page shorter than q.Limit is the last one. A Limit below 1 is
	// an error.
	//
	// A Store writes an event in the transaction of the change. EventOf says
	// what it holds: By is UpdatedBy of an updated record, CreatedBy of an
	// inserted one. If the Store keeps no events, the error matches
	// errors.ErrUnsupported.
	Events(ctx context.Context, q EventQuery) ([]Event, error)
}

// A Query selects records for Store.List.
//
// A Store must obey Owner, Chain, CreatedBy, NewestFirst, After and Limit. It
// should obey the rest, which a [Keyring] checks again. A field with its zero
// value selects every record.
type Query struct {
	Owner     string // only keys of that owner
	Chain     string // only keys of that chain of rotations
	CreatedBy string // only keys that this actor created

	NewestFirst bool     // the order; otherwise oldest first
	After       Position // only keys that follow it in that order; none need be there
	Limit       int      // at most that many records

	States States    // only keys in one of these states
	Now    time.Time // the time that States are about

	// ExpiresFrom and ExpiresBefore select keys by their expiry: not before the
	// one, before the other. If either is set, a key that never expires is left
	// out.
	ExpiresFrom, ExpiresBefore time.Time

	// Text selects keys whose name, owner, ID or hint contains it, in upper or
	// lower case.
	Text string
}

// Matches reports whether q selects r. It is for stores that filter in Go, and
// ignores only Limit.
func (q Query) Matches(r *auth.Record) bool {
	switch {
	case q.Owner != "" && r.Owner != q.Owner,
		q.Chain != "" && r.Chain != q.Chain,
		q.CreatedBy != "" && r.CreatedBy != q.CreatedBy,
		q.States != 0 && q.States&StateOf(r, q.Now) == 0,
		!q.After.IsZero() && !q.follows(PositionOf(r), q.After),
		!q.expiryMatches(r.ExpiresAt):
		return false
	}
	if q.Text == "" {
		return true
	}
	text := strings.ToLower(q.Text)
	return contains(r.Name, text) || contains(r.Owner, text) || contains(r.ID, text) || contains(r.Hint, text)
}

func (q *Query) expiryMatches(expires time.Time) bool {
	if q.ExpiresFrom.IsZero() && q.ExpiresBefore.IsZero() {
		return true
	}
	return !expires.IsZero() && !expires.Before(q.ExpiresFrom) &&
		(q.ExpiresBefore.IsZero() || expires.Before(q.ExpiresBefore))
}

// follows reports whether a record at p comes after one at q in this order.
func (q *Query) follows(p, after Position) bool {
	if q.NewestFirst {
		return p.compare(after) < 0
	}
	return p.compare(after) > 0
}

// contains reports whether s contains the lower-case text, ignoring case.
func contains(s, text string) bool { return strings.Contains(strings.ToLower(s), text) }

// A Position is a place in a list of records: that of the last record seen.
type Position struct {
	CreatedAt time.Time
	ID        string
}

// PositionOf returns the place of r.
func PositionOf(r *auth.Record) Position { return Position{r.CreatedAt.Round(0), r.ID} }

// IsZero reports whether p is the zero Position, the start of a list.
func (p Position) IsZero() bool { return p.CreatedAt.IsZero() && p.ID == "" }

func (p Position) compare(q Position) int {
	return cmp.Or(p.CreatedAt.Compare(q.CreatedAt), cmp.Compare(p.ID, q.ID))
}

// A RecordError is a row that a [Store] could not read.
type RecordError struct {
	ID  string
	At  Position // its place in the list; zero if even that could not be read
	Err error
}

// Error returns the ID and the cause.
func (e *RecordError) Error() string {
	return "keyring: record " + oneLine(e.ID) + " cannot be read: " + fmt.Sprint(e.Err)
}

// Unwrap returns the cause.
func (e *RecordError) Unwrap() error { return e.Err }

// States are a set of states that a key can be in. The zero States mean any
// state. An unknown bit selects nothing.
type States uint8

const (
	Active   States = 1 << iota // auth.Record.Check finds nothing
	Disabled                    // it finds auth.ErrKeyDisabled
	Revoked                     // it finds auth.ErrKeyRevoked
	Expired                     // it finds auth.ErrKeyExpired

	allStates = Active | Disabled | Revoked | Expired
)

// StateOf returns the one state that r is in, which is what r.Check(now) finds:
// a key that is both revoked and expired is Revoked.
func StateOf(r *auth.Record, now time.Time) States {
	switch r.Check(now) {
	case nil:
		return Active
	case auth.ErrKeyDisabled:
		return Disabled
	case auth.ErrKeyRevoked:
		return Revoked
	default:
		return Expired
	}
}

// String returns the names of the states, such as "active|disabled".
func (s States) String() string {
	if s == 0 {
		return "any"
	}
	var names []string
	for i, name := range [...]string{"active", "disabled", "revoked", "expired"} {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if unknown := s &^ allStates; unknown != 0 {
		names = append(names, "States("+strconv.Itoa(int(unknown))+")")
	}
	return strings.Join(names, "|")
}

// An Event is one change of a key: who made it and when, what the key was and
// what it became.
type Event struct {
	ID   string    `json:"id,omitempty"` // the Store's; empty for Options.OnEvent
	Time time.Time `json:"time"`
	Kind EventKind `json:"kind"`

	KeyID string `json:"keyId"`
	Owner string `json:"owner,omitempty"` // of the key
	By    string `json:"by,omitempty"`    // Actor.Name, or "staff:" and who it was, or "sql:" and a database role

	// Revision is the one that the change made. Of a deleted key it is the one
	// that the key had.
	Revision int64 `json:"revision"`

	Before *auth.Record `json:"before,omitempty"` // nil if the key was created
	After  *auth.Record `json:"after,omitempty"`  // nil if the key was deleted
}

// An EventKind is what an [Event] did to its key.
type EventKind string

const (
	EventCreated  EventKind = "created" // by Create, or as the successor of a rotated key
	EventUpdated  EventKind = "updated" // name, scopes, expiry, metadata
	EventRotated  EventKind = "rotated" // the old key; its RotatedTo names the successor
	EventDisabled EventKind = "disabled"
	EventEnabled  EventKind = "enabled"
	EventRevoked  EventKind = "revoked"
	EventDeleted  EventKind = "deleted"
)

// String returns the kind, the key, and who made the change, on one line.
func (e Event) String() string {
	return oneLine(string(e.Kind)) + " " + oneLine(e.KeyID) + " by " + oneLine(e.By)
}

// Format writes what String returns, for every verb but %p, %T and %w, which
// package fmt does not pass on.
func (e Event) Format(f fmt.State, verb rune) { io.WriteString(f, e.String()) }

// LogValue returns all but Before and After.
func (e Event) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", e.ID), slog.Time("time", e.Time), slog.String("kind", string(e.Kind)),
		slog.String("key", e.KeyID), slog.String("owner", e.Owner), slog.String("by", e.By),
		slog.Int64("revision", e.Revision))
}

// An EventQuery selects events for Store.Events. A field with its zero value
// selects every event. A Store must obey all of it.
type EventQuery struct {
	KeyID, Owner, By string
	Kind             EventKind
	From, To         time.Time // From ≤ Time < To

	// After is the ID of an event; those that are older follow. If it is not
	// the ID of an event of Owner, the error matches auth.ErrNotFound.
	After string

	Limit int // at most that many events
}

// matches reports whether q selects e. It ignores After and Limit.
func (q *EventQuery) matches(e *Event) bool {
	return (q.KeyID == "" || e.KeyID == q.KeyID) && (q.Owner == "" || e.Owner == q.Owner) &&
		(q.By == "" || e.By == q.By) && (q.Kind == "" || e.Kind == q.Kind) &&
		(q.From.IsZero() || !e.Time.Before(q.From)) && (q.To.IsZero() || e.Time.Before(q.To))
}

// mustHave panics, naming the call, if store is nil or a nil pointer.
func mustHave(call string, store Store) {
	if store == nil {
		panic(call + ": the store is nil")
	}
	if v := reflect.ValueOf(store); v.Kind() == reflect.Pointer && v.IsNil() {
		panic(fmt.Sprintf("%s: the store is a nil %T", call, store))
	}
}

// oneLine returns s with everything escaped that could end a line, hide text or
// change its direction, so that a name in a log cannot forge a second line.
func oneLine(s string) string {
	for _, c := range s {
		if !strconv.IsPrint(c) || c == utf8.RuneError {
			quoted := strconv.Quote(s)
			return quoted[1 : len(quoted)-1]
		}
	}
	return s
}
