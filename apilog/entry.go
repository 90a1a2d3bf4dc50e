package apilog

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// An Entry is one request, or stands for requests that were lost. A Recorder
// cuts long texts off: Method at 32 bytes, Path and Route at 1,024, Code at 64,
// RequestID at 128 and UserAgent at 512. KeyID and Owner have at most 1,024
// bytes, and are empty if they would have more.
//
// It has no JSON form. For an endpoint, encode a type of your own.
type Entry struct {
	// ID is unique. The order of IDs is the order of their times.
	ID string

	// Time is when the request began, in UTC. Duration is how long the handler
	// took. Both are to the microsecond.
	Time     time.Time
	Duration time.Duration

	// KeyID and Owner are those of the key that came with the request. They
	// are empty if no known key came with it.
	KeyID, Owner string

	Method string
	Route  string // the pattern that matched, as in http.Request.Pattern
	Path   string // without the query, and without keys

	// Status is the status of the answer. It is 101 if the connection was
	// hijacked, 500 if the handler panicked, and 499 if the client left before
	// an answer.
	Status int

	// Code says why the request was refused, as in the problem details:
	// "KEY_REVOKED". It is empty if it was not.
	Code string

	// RequestBytes are the bytes of the body that the handler read, and
	// ResponseBytes those of the body that it wrote.
	RequestBytes, ResponseBytes int64

	RequestID  string // the X-Request-Id of the answer, else that of the request
	UserAgent  string
	RemoteAddr netip.Addr // without a zone, and never IPv4 in IPv6

	// Lost, if not 0, says that this is no request: it stands for that many
	// entries of its key that were lost until Time. All other fields but ID,
	// KeyID and Owner are empty.
	Lost int64
}

// Requests returns for how many requests e stands: Lost, or 1.
func (e *Entry) Requests() int64 {
	if e.Lost != 0 {
		return e.Lost
	}
	return 1
}

// A Query selects entries. A field that is empty selects all of them. Texts are
// compared exactly, also in letter case. If From is after To, or StatusFrom is
// above StatusTo, a list is empty.
type Query struct {
	Owner, KeyID, Method, Route, Code, RequestID string
	RemoteAddr                                   netip.Addr

	// StatusFrom and StatusTo are the first and the last status. If one is 0,
	// that end is open.
	StatusFrom, StatusTo int

	// From ≤ Time < To, in any zone. What is less than a microsecond is cut off.
	From, To time.Time

	// After is the ID of an entry. A list continues after it, whether or not
	// the other fields select it. If [NewID] made the ID, the entry need not be
	// there any more. Else it must be there, and be one of Owner if that is
	// set, or the error matches [ErrInvalidQuery].
	After string

	// Limit is the most that a list returns. If it is 0 or less, it is
	// [DefaultLimit]. A histogram heeds neither After nor Limit.
	Limit int
}

// DefaultLimit is the Limit of a [Query] that has none.
const DefaultLimit = 100

// Matches reports whether q selects e. It heeds neither After nor Limit. It is
// for stores that filter in Go.
func (q *Query) Matches(e *Entry) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(q.Owner, e.Owner) && is(q.KeyID, e.KeyID) && is(q.Method, e.Method) && is(q.Route, e.Route) &&
		is(q.Code, e.Code) && is(q.RequestID, e.RequestID) &&
		(!q.RemoteAddr.IsValid() || q.RemoteAddr == e.RemoteAddr) &&
		(q.StatusFrom == 0 || e.Status >= q.StatusFrom) && (q.StatusTo == 0 || e.Status <= q.StatusTo) &&
		(q.From.IsZero() || e.Time.UnixMicro() >= q.From.UnixMicro()) &&
		(q.To.IsZero() || e.Time.UnixMicro() < q.To.UnixMicro())
}

// A Bucket counts the requests that began in [Start, Start+step).
type Bucket struct {
	Start time.Time

	// Requests counts all of them, and those that were lost. ClientErrors have
	// a status from 400 to 499, ServerErrors one from 500.
	Requests, ClientErrors, ServerErrors int64
}

// Add counts e.
func (b *Bucket) Add(e *Entry) {
	b.Requests += e.Requests()
	switch {
	case e.Status >= 500:
		b.ServerErrors++
	case e.Status >= 400:
		b.ClientErrors++
	}
}

// A Store keeps entries. Its methods may be called at the same time. A method
// whose ctx is done when it is called returns an error and changes nothing.
// Package apilogtest has a test of what is said here.
type Store interface {
	// Append stores all of the entries or none. They may be of any time, in any
	// order. An entry whose ID is stored already is left as it is; that is no
	// error, and ID and Time are the same then. The texts are valid UTF-8
	// without NUL, and bounded. The store may neither keep the slice nor change
	// it.
	Append(ctx context.Context, entries []Entry) error

	// List returns the entries that q selects: newest first, and those of one
	// time in the descending order of their IDs. The caller may change what is
	// returned.
	List(ctx context.Context, q Query) ([]Entry, error)

	// Histogram returns a bucket for each step from q.From until q.To, oldest
	// first, empty ones included. The last one may end after q.To, but counts
	// nothing from then on. [Buckets] returns them empty, and the error if q
	// and step make no sense.
	Histogram(ctx context.Context, q Query, step time.Duration) ([]Bucket, error)

	// DeleteBefore deletes the entries from before t, of which less than a
	// microsecond is cut off. It returns how many, or about how many if the
	// store drops them as a whole.
	DeleteBefore(ctx context.Context, t time.Time) (int64, error)

	// DeleteOwner deletes all entries of an owner and returns how many. An
	// empty owner is an error.
	DeleteOwner(ctx context.Context, owner string) (int64, error)
}

// ErrInvalidQuery is what List and Histogram return for a query that makes no
// sense. The text says why and is for the log. An endpoint answers 400.
var ErrInvalidQuery = errors.New("apilog: invalid query")

// MaxBuckets is the most that a histogram has.
const MaxBuckets = 10_000

// Buckets returns the empty buckets of a histogram. The error matches
// [ErrInvalidQuery] if q.From or q.To is zero, if q.To is before q.From, if
// step is less than a millisecond, or if there were more than [MaxBuckets]. If
// q.To is q.From, there are none. Of q.From, q.To and step, what is less than a
// microsecond is cut off.
func Buckets(q Query, step time.Duration) ([]Bucket, error) {
	switch {
	case q.From.IsZero() || q.To.IsZero():
		return nil, fmt.Errorf("%w: a histogram needs From and To", ErrInvalidQuery)
	case q.To.Before(q.From):
		return nil, fmt.Errorf("%w: To is before From", ErrInvalidQuery)
	case step < time.Millisecond:
		return nil, fmt.Errorf("%w: the step is less than a millisecond", ErrInvalidQuery)
	}
	// In microseconds, since a time.Duration ends at 292 years. Unsigned, since
	// the span of any two times fits then.
	span, width := uint64(q.To.UnixMicro()-q.From.UnixMicro()), uint64(step.Microseconds())
	n := span / width
	if span%width > 0 {
		n++
	}
	if n > MaxBuckets {
		return nil, fmt.Errorf("%w: more than %d buckets", ErrInvalidQuery, MaxBuckets)
	}
	list := make([]Bucket, n)
	for i := range list {
		list[i].Start = time.UnixMicro(q.From.UnixMicro() + int64(i)*step.Microseconds()).UTC()
	}
	return list, nil
}

// ids are in the alphabet "0" to "9", "a" to "v", so that their order is that of
// the bytes in every collation.
var ids = base32.HexEncoding.WithPadding(base32.NoPadding)

const idLen = 20 // 12 bytes: 7 of the time in microseconds, 5 at random

// NewID returns a new ID for an entry of time t.
func NewID(t time.Time) string {
	e := []Entry{{Time: t}}
	setIDs(e)
	return e[0].ID
}

// setIDs gives each of the entries a new ID.
func setIDs(entries []Entry) {
	random := make([]byte, 8*len(entries))
	rand.Read(random)
	text := make([]byte, 0, idLen*len(entries))
	for i := range entries {
		micro := uint64(min(max(entries[i].Time.UnixMicro(), 0), 1<<56-1))
		low := binary.BigEndian.Uint64(random[8*i:]) & (1<<40 - 1)
		var b [12]byte
		binary.BigEndian.PutUint32(b[:], uint32(micro>>24))
		binary.BigEndian.PutUint64(b[4:], micro<<40|low)
		text = ids.AppendEncode(text, b[:])
	}
	all := string(bytes.ToLower(text))
	for i := range entries {
		entries[i].ID = all[idLen*i : idLen*(i+1)]
	}
}

// TimeOf returns the time of the entry with an ID that [NewID] made. The store
// need not have it any more.
func TimeOf(id string) (t time.Time, ok bool) {
	if len(id) != idLen {
		return time.Time{}, false
	}
	upper := []byte(id)
	for i, c := range upper {
		switch {
		case c >= 'a' && c <= 'v':
			upper[i] = c - 'a' + 'A'
		case c < '0' || c > '9':
			return time.Time{}, false
		}
	}
	var b [12]byte
	if n, err := ids.Decode(b[:], upper); err != nil || n != len(b) {
		return time.Time{}, false
	}
	micro := uint64(binary.BigEndian.Uint32(b[:4]))<<24 | binary.BigEndian.Uint64(b[4:])>>40
	return time.UnixMicro(int64(micro)).UTC(), true
}
