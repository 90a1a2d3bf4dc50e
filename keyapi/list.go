package keyapi

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

const (
	defaultLimit = 50
	maxLimit     = 200
)

// A page is a part of a list.
type page[T any] struct {
	Data []T  `json:"data"`
	Meta meta `json:"meta"`
}

type meta struct {
	Count      int     `json:"count"` // of this page
	HasMore    bool    `json:"hasMore"`
	NextCursor *string `json:"nextCursor"`
}

// newPage returns a page. The cursor is that of the next one, or "".
func newPage[T any](data []T, cursor string) page[T] {
	if data == nil {
		data = []T{} // not null
	}
	return page[T]{data, meta{len(data), cursor != "", optional(cursor)}}
}

// list answers with keys, newest first.
func (c *call) list() error {
	values, err := c.query("limit", "cursor", "status", "q")
	if err != nil {
		return err
	}
	limit, err := c.limit(values)
	if err != nil {
		return err
	}
	states, err := c.states(values)
	if err != nil {
		return err
	}
	if len(values["q"]) > maxText {
		return c.badParameter("q", "The text has more than "+strconv.Itoa(maxText)+" bytes")
	}
	if c.text = values["q"]; c.holdsKey(c.text) {
		return c.badParameter("q", "The text holds a key, which must not be in a URL")
	}
	filter := keyring.Filter{States: states, Text: values["q"], NewestFirst: true}
	bound := []string{"keys", states.String(), filter.Text}
	if text, ok := values["cursor"]; ok {
		place, err := c.readCursor(text, bound)
		if err != nil {
			return err
		}
		if filter.After, ok = positionFrom(place); !ok {
			return c.badCursor()
		}
	}
	records, more, err := take(c.readable(c.keys.List(c.r.Context(), filter)), limit)
	if err != nil {
		return err
	}
	keys := make([]key, len(records))
	for i := range records {
		keys[i] = c.keyOf(&records[i])
	}
	next := ""
	if more {
		next = c.cursor(positionBytes(keyring.PositionOf(&records[limit-1])), bound)
	}
	c.write(http.StatusOK, plainJSON, newPage(keys, next))
	return nil
}

// scopes answers with the catalog. It is empty without a Catalog, and then every
// valid scope exists.
func (c *call) scopes() error {
	if _, err := c.query(); err != nil {
		return err
	}
	c.write(http.StatusOK, plainJSON, newPage(c.scheme.Catalog, ""))
	return nil
}

// readable returns the records of a list. A row that cannot be read is logged
// and left out.
func (c *call) readable(list iter.Seq2[auth.Record, error]) iter.Seq2[auth.Record, error] {
	return func(yield func(auth.Record, error) bool) {
		for r, err := range list {
			if _, ok := errors.AsType[*keyring.RecordError](err); ok {
				c.logFailure(err)
			} else if !yield(r, err) {
				return
			}
		}
	}
}

// take returns the first n of a list, and whether there are more. An error ends
// the list.
func take[T any](list iter.Seq2[T, error], n int) (taken []T, more bool, err error) {
	for item, err := range list {
		if err != nil {
			return nil, false, err
		}
		if len(taken) == n {
			return taken, true, nil
		}
		taken = append(taken, item)
	}
	return taken, false, nil
}

// limit returns the length of a page.
func (c *call) limit(values map[string]string) (int, error) {
	text, ok := values["limit"]
	if !ok {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || strconv.Itoa(n) != text || n < 1 || n > maxLimit {
		return 0, c.badParameter("limit", "The limit must be an integer from 1 to "+strconv.Itoa(maxLimit))
	}
	return n, nil
}

// states returns the states that a list is filtered by.
func (c *call) states(values map[string]string) (keyring.States, error) {
	text, ok := values["status"]
	if !ok {
		return 0, nil
	}
	var states keyring.States
	for name := range strings.SplitSeq(text, ",") {
		all := []keyring.States{keyring.Active, keyring.Disabled, keyring.Revoked, keyring.Expired}
		i := slices.IndexFunc(all, func(s keyring.States) bool { return s.String() == name })
		if i < 0 {
			return 0, c.badParameter("status", "The status must be active, disabled, revoked or expired, or several of them, separated by commas")
		}
		states |= all[i]
	}
	return states, nil
}

// cursor returns the text for a place in the list that the request is for. It
// works only for the same owner, key and filters.
func (c *call) cursor(place []byte, filters []string) string {
	return base64.RawURLEncoding.EncodeToString(append(c.seal(place, filters), place...))
}

const sealLen = 12

// seal returns what makes an accidental or foreign cursor conspicuous. It is no
// secret: who forges one sees no more than their own list.
func (c *call) seal(place []byte, filters []string) []byte {
	text, err := json.Marshal([]any{c.owner, c.id, filters, place})
	if err != nil {
		panic("keyapi: " + err.Error()) // strings and bytes can be marshaled
	}
	sum := sha256.Sum256(text)
	return sum[:sealLen]
}

// readCursor returns the place that a cursor stands for.
func (c *call) readCursor(text string, filters []string) ([]byte, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(sealed) <= sealLen {
		return nil, c.badCursor()
	}
	place := sealed[sealLen:]
	if string(c.seal(place, filters)) != string(sealed[:sealLen]) {
		return nil, c.badCursor()
	}
	return place, nil
}

func (c *call) badCursor() error {
	return c.badParameter("cursor", "The cursor is not one of this list with these filters, or too old; leave it out to start again")
}

// positionBytes returns a position to the nanosecond.
func positionBytes(p keyring.Position) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(p.CreatedAt.Unix()))
	b = binary.BigEndian.AppendUint32(b, uint32(p.CreatedAt.Nanosecond()))
	return append(b, p.ID...)
}

// positionFrom undoes positionBytes. It refuses what no record can have, and
// what no store would take.
func positionFrom(b []byte) (keyring.Position, bool) {
	if len(b) <= 12 {
		return keyring.Position{}, false
	}
	seconds, nanos := int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint32(b[8:]))
	at, id := time.Unix(seconds, nanos).UTC(), string(b[12:])
	if nanos >= 1e9 || at.Year() < 1 || at.Year() > 9999 || !isID(id) {
		return keyring.Position{}, false
	}
	return keyring.Position{CreatedAt: at, ID: id}, true
}

// isID reports whether a text can be an ID.
func isID(text string) bool {
	return text != "" && len(text) <= maxText && utf8.ValidString(text) && !strings.ContainsRune(text, 0)
}

// events answers with changes, newest first: of one key, or of all.
func (c *call) events() error {
	values, err := c.query("limit", "cursor", "kind", "from", "to")
	if err != nil {
		return err
	}
	limit, err := c.limit(values)
	if err != nil {
		return err
	}
	filter := keyring.EventFilter{KeyID: c.id}
	if text, ok := values["kind"]; ok {
		filter.Kind = keyring.EventKind(text)
		if !slices.Contains(eventKinds, filter.Kind) {
			return c.badParameter("kind", "The kind must be created, updated, rotated, disabled, enabled, revoked or deleted")
		}
	}
	if filter.From, err = c.time(values, "from"); err != nil {
		return err
	}
	if filter.To, err = c.time(values, "to"); err != nil {
		return err
	}
	if !filter.To.IsZero() && filter.From.After(filter.To) {
		return c.badParameter("from", "from is after to")
	}
	bound := []string{"events", string(filter.Kind), values["from"], values["to"]}
	if text, ok := values["cursor"]; ok {
		place, err := c.readCursor(text, bound)
		if err != nil {
			return err
		}
		if filter.After = string(place); !isID(filter.After) {
			return c.badCursor()
		}
	}
	ctx := c.r.Context()
	list, more, err := take(c.keys.Events(ctx, filter), limit)
	if errors.Is(err, auth.ErrNotFound) && filter.After != "" {
		// It is the key or the cursor.
		if c.id != "" {
			if _, _, err := take(c.keys.Events(ctx, keyring.EventFilter{KeyID: c.id}), 1); err != nil {
				return err
			}
		}
		return c.badCursor()
	}
	if err != nil {
		return err
	}
	events := make([]event, len(list))
	for i := range list {
		events[i] = c.eventOf(&list[i])
	}
	next := ""
	if more {
		next = c.cursor([]byte(list[limit-1].ID), bound)
	}
	c.write(http.StatusOK, plainJSON, newPage(events, next))
	return nil
}
