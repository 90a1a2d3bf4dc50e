package keyapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/insigner/auth/keyring"
)

const (
	maxBody  = 64 << 10
	maxShown = 31 // bytes of an unknown name that an answer repeats; a secret is longer

	mergePatch = "application/merge-patch+json" // RFC 7396
	plainJSON  = "application/json"
)

// query returns the parameters of the query. Each is known and occurs once.
func (c *call) query(known ...string) (map[string]string, error) {
	values := make(map[string]string)
	for pair := range strings.SplitSeq(c.r.URL.RawQuery, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil || !slices.Contains(known, name) {
			if err != nil || len(name) > maxShown || !utf8.ValidString(name) {
				return nil, c.badParameter("", "The query has a parameter that is unknown here")
			}
			return nil, c.badParameter(name, "The parameter is unknown here")
		}
		if _, twice := values[name]; twice {
			if name == "status" {
				return nil, c.badParameter(name, "The parameter occurs twice; separate values by commas")
			}
			return nil, c.badParameter(name, "The parameter occurs twice")
		}
		value, err = url.QueryUnescape(value)
		if err != nil || !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
			return nil, c.badParameter(name, "The parameter must be percent-encoded UTF-8 without NUL")
		}
		values[name] = value
	}
	return values, nil
}

// time returns a parameter as a time, or the zero time if it is not there.
func (c *call) time(values map[string]string, name string) (time.Time, error) {
	text, ok := values[name]
	if !ok {
		return time.Time{}, nil
	}
	t, ok := parseTime(text)
	if !ok {
		return time.Time{}, c.badParameter(name, "The parameter must be a time of RFC 3339, such as "+someTime)
	}
	return t, nil
}

const someTime = "2027-03-31T23:59:59Z" // an example for who sends another form

// rfc3339 is the grammar of RFC 3339 section 5.6 in upper case. Package time is
// more lenient.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// parseTime parses a time of RFC 3339 that is in the years 1 to 9999 in UTC.
func parseTime(text string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, text)
	t = t.UTC()
	return t, err == nil && rfc3339.MatchString(text) && t.Year() >= 1 && t.Year() <= 9999
}

// none refuses every parameter and every member, for operations without any.
func (c *call) none() error {
	if _, err := c.query(); err != nil {
		return err
	}
	_, err := c.body()
	return err
}

// body returns the members of the body, which is one JSON object, or none if
// the body is empty. Each is known and occurs once.
func (c *call) body(known ...string) (map[string]json.RawMessage, error) {
	if c.r.ContentLength > maxBody {
		return nil, c.tooLarge() // without waiting for it
	}
	data, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if err != nil {
		return nil, c.unreadable(err)
	}
	if len(data) == 0 {
		return nil, nil
	}
	if err := c.checkMediaType(); err != nil {
		return nil, err
	}
	if !utf8.Valid(data) {
		return nil, c.badMember("", "The body is not valid UTF-8")
	}
	if !json.Valid(data) {
		return nil, c.badMember("", notJSON(data))
	}
	if hasLoneSurrogate(data) {
		return nil, c.badMember("", "The body has half a character: a lone surrogate")
	}
	return c.object("", "body", data, known)
}

// notJSON says why a body is not one JSON value.
func notJSON(data []byte) string {
	dec := json.NewDecoder(bytes.NewReader(data))
	for n := 0; ; n++ {
		var value json.RawMessage
		switch err := dec.Decode(&value); {
		case err == io.EOF && n > 1:
			return "The body is not one JSON value; send one object"
		case err != nil:
			return "The body is not valid JSON"
		}
	}
}

func (c *call) unreadable(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return c.tooLarge()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p := c.badMember("", "The body came too slowly")
		p.Problem = *newProblem(c.base, http.StatusRequestTimeout, "REQUEST_TIMEOUT", p.Detail)
		return p
	}
	return c.badMember("", "The body could not be read")
}

func (c *call) tooLarge() error {
	p := c.badMember("", fmt.Sprintf("The body has more than %d bytes", maxBody))
	p.Problem = *newProblem(c.base, http.StatusRequestEntityTooLarge, "BODY_TOO_LARGE", p.Detail)
	return p
}

// checkMediaType refuses a body that is not said to be JSON.
func (c *call) checkMediaType() error {
	field, detail := "Content-Type", "The Content-Type must be "+plainJSON
	isPatch := c.r.Method == http.MethodPatch
	if isPatch {
		detail = "The Content-Type must be " + mergePatch + " or " + plainJSON
	}
	types := c.r.Header.Values(field)
	accepted := len(types) == 1
	if accepted {
		mediaType, params, err := mime.ParseMediaType(types[0]) // in lower case
		accepted = err == nil && (mediaType == plainJSON || mediaType == mergePatch && isPatch)
		// JSON has no other encoding (RFC 8259 section 8.1).
		if charset, ok := params["charset"]; accepted && ok && !strings.EqualFold(charset, "utf-8") {
			detail, accepted = "The charset of the Content-Type must be utf-8", false
		}
	}
	if accepted {
		field, detail = "Content-Encoding", "The body must not be encoded"
		accepted = !slices.ContainsFunc(c.r.Header.Values(field), func(coding string) bool {
			return coding != "" && !strings.EqualFold(coding, "identity")
		})
	}
	if accepted {
		return nil
	}
	if field == "Content-Encoding" {
		c.w.Header().Set("Accept-Encoding", "identity") // RFC 9110 section 15.5.16
	} else if isPatch {
		c.w.Header().Set("Accept-Patch", mergePatch+", "+plainJSON) // RFC 5789 section 3.1
	}
	p := c.problem(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", detail)
	p.Parameter = field
	return p
}

// hasLoneSurrogate reports whether valid JSON escapes half of a surrogate pair,
// which encoding/json would silently replace (RFC 8259 section 8.2).
func hasLoneSurrogate(data []byte) bool {
	low := func(n uint64) bool { return n >= 0xdc00 && n <= 0xdfff }
	unit := func(i int) (uint64, bool) { // the code unit that `\uXXXX` at i stands for
		if i+6 > len(data) || data[i] != '\\' || data[i+1] != 'u' {
			return 0, false
		}
		n, err := strconv.ParseUint(string(data[i+2:i+6]), 16, 16)
		return n, err == nil
	}
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		n, ok := unit(i)
		switch {
		case ok && low(n):
			return true
		case ok && n >= 0xd800 && n < 0xdc00:
			next, ok := unit(i + 6)
			if !ok || !low(next) {
				return true
			}
			i += 6
		}
		i++ // what is escaped, so that `\\` does not begin another escape
	}
	return false
}

// object returns the members of a JSON object, which is valid. The pointer is
// that of the object, and what says what it is. If known is nil, all names are.
func (c *call) object(pointer, what string, data []byte, known []string) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	notObject := "The " + what + " must be a JSON object"
	if token, _ := dec.Token(); token != json.Delim('{') {
		return nil, c.badMember(pointer, notObject)
	}
	members := make(map[string]json.RawMessage)
	for dec.More() {
		token, _ := dec.Token()
		name, _ := token.(string)
		if !slices.Contains(known, name) {
			if len(name) > maxShown {
				return nil, c.badMember(pointer, "A member is unknown here; its name is too long to be shown")
			}
			return nil, c.badMember(pointer+pointerTo(name), "The member is unknown here")
		}
		if _, twice := members[name]; twice {
			return nil, c.badMember(pointer+pointerTo(name), "The member occurs twice")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, c.badMember(pointer, notObject)
		}
		members[name] = value
	}
	return members, nil
}

// decode decodes a value, which is valid JSON, into a string, a bool or a list
// of raw values. Null is refused.
func decode(value json.RawMessage, into any) bool {
	return !isNull(value) && json.Unmarshal(value, into) == nil
}

func isNull(value json.RawMessage) bool { return string(value) == "null" }

// A change is what a body asks for. A field is nil if its member is not there.
// Null is the zero value.
type change struct {
	name      *string
	scopes    *[]string
	expiresAt *time.Time
	metadata  map[string]*string // nil: to be removed
}

// change reads the body of a request that creates or changes a key.
func (c *call) change() (*change, error) {
	known := []string{"name", "scopes", "expiresAt"}
	if len(c.metadata) > 0 {
		known = append(known, "metadata")
	}
	members, err := c.body(known...)
	if err != nil {
		return nil, err
	}
	if members == nil {
		return nil, c.badMember("", "The body is empty; send a JSON object")
	}
	var ch change
	if value, ok := members["name"]; ok {
		ch.name = new(string)
		if !isNull(value) && !decode(value, ch.name) {
			return nil, c.badMember("/name", "The name must be a string")
		}
		if c.holdsKey(*ch.name) {
			return nil, c.badMember("/name", "The name holds a key, which must not be shown again")
		}
	}
	if value, ok := members["scopes"]; ok {
		if ch.scopes, err = c.readScopes(value); err != nil {
			return nil, err
		}
	}
	if value, ok := members["expiresAt"]; ok {
		if ch.expiresAt, err = c.readExpiry(value); err != nil {
			return nil, err
		}
	}
	if value, ok := members["metadata"]; ok {
		if ch.metadata, err = c.readMetadata(value); err != nil {
			return nil, err
		}
	}
	return &ch, nil
}

func (c *call) readScopes(value json.RawMessage) (*[]string, error) {
	scopes := new([]string)
	if isNull(value) {
		return scopes, nil
	}
	var list []json.RawMessage
	if !decode(value, &list) {
		return nil, c.badMember("/scopes", "The scopes must be an array of strings")
	}
	for i, element := range list {
		var s string
		if !decode(element, &s) {
			return nil, c.badMember("/scopes/"+strconv.Itoa(i), "The scope must be a string")
		}
		if c.holdsKey(s) {
			return nil, c.badMember("/scopes/"+strconv.Itoa(i), "The scope holds a key, which must not be shown again")
		}
		*scopes = append(*scopes, s)
	}
	return scopes, nil
}

func (c *call) readExpiry(value json.RawMessage) (*time.Time, error) {
	expires := new(time.Time)
	if isNull(value) {
		return expires, nil
	}
	var text string
	ok := decode(value, &text)
	if ok {
		*expires, ok = parseTime(text)
	}
	if !ok {
		return nil, c.badMember("/expiresAt", "The expiry must be a time of RFC 3339, such as "+someTime)
	}
	if expires.IsZero() { // to a Keyring it means "never"
		return nil, &keyring.ArgumentError{Field: "ExpiresAt", Reason: "the expiry is not in the future"}
	}
	return expires, nil
}

// readMetadata reads the entries that clients may set. Null stands for all of
// them.
func (c *call) readMetadata(value json.RawMessage) (map[string]*string, error) {
	entries := make(map[string]*string)
	if isNull(value) {
		for _, name := range c.metadata {
			entries[name] = nil
		}
		return entries, nil
	}
	members, err := c.object("/metadata", "metadata", value, c.metadata)
	if err != nil {
		return nil, err
	}
	for name, value := range members {
		if isNull(value) {
			entries[name] = nil
			continue
		}
		entries[name] = new(string)
		if !decode(value, entries[name]) {
			return nil, c.badMember("/metadata"+pointerTo(name), "The entry must be a string")
		}
		if c.holdsKey(*entries[name]) {
			return nil, c.badMember("/metadata"+pointerTo(name), "The entry holds a key, which must not be shown again")
		}
	}
	return entries, nil
}

// graceSeconds reads a number of seconds. It must have no fraction and no
// exponent.
func (c *call) graceSeconds(value json.RawMessage) (time.Duration, error) {
	const pointer = "/graceSeconds"
	text := string(value)
	if strings.Trim(strings.TrimPrefix(text, "-"), "0123456789") != "" {
		return 0, c.badMember(pointer, "graceSeconds must be an integer")
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if limit := int64(keyring.MaxGrace / time.Second); err != nil || n < 0 || n > limit {
		return 0, &keyring.ArgumentError{Field: "Grace",
			Reason: fmt.Sprintf("the number of seconds must be between 0 and %d", limit)}
	}
	return time.Duration(n) * time.Second, nil
}
