package auth

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Step is the part of the work that a [Decision] is about.
type Step string

const (
	StepAuthenticate Step = "authenticate" // whose key it is, and whether it is good
	StepAuthorize    Step = "authorize"    // whether a good key has the scopes
	StepRecheck      Step = "recheck"      // whether a key is still good
)

// A Decision is what was decided about a key, for Options.OnDecision. Printed
// by itself, in an exported field, a slice or a map, it shows no secret.
// Package fmt does not ask it when it is an unexported field.
//
// A request that passes Middleware and [Require] makes two decisions. The
// Authenticator's own Require makes one: its Step is "authorize" once the key
// is known to be good.
type Decision struct {
	Step   Step
	Err    error         // nil if the key passed; otherwise see ErrMissingKey and the other errors
	Code   string        // the Code of Err, such as "KEY_REVOKED"; "" if the key passed
	Time   time.Time     // when it was decided
	Lookup time.Duration // how long the store took; 0 if it was not asked

	// Request is the request that the decision is about. It is nil for Verify
	// and Recheck, and for Authorize outside a request.
	Request *http.Request `json:"-"`

	record   *Record
	required *requirement
}

// KeyID returns the ID of the key's record, or "" if the record is not known.
func (d Decision) KeyID() string {
	if d.record == nil {
		return ""
	}
	return d.record.ID
}

// Owner returns the owner of the key's record, or "" if the record is not known.
func (d Decision) Owner() string {
	if d.record == nil {
		return ""
	}
	return d.record.Owner
}

// Record returns a copy of the key's record, and whether it is known. It is
// known if the key passed, and if it was refused because it is revoked,
// disabled or expired, or lacks a scope. KeyID and Owner are cheaper.
func (d Decision) Record() (Record, bool) {
	if d.record == nil {
		return Record{}, false
	}
	return *d.record.Clone(), true
}

// Required returns a copy of the scopes that the route requires, or nil if
// there are none.
func (d Decision) Required() Scopes {
	if d.required == nil {
		return nil
	}
	return slices.Clone(d.required.scopes)
}

// LogValue returns the step, the outcome (the Code, or "OK"), the duration of
// the lookup, the required scopes and the key, as far as they are known.
func (d Decision) LogValue() slog.Value {
	outcome := d.Code
	switch {
	case d.Err == nil:
		outcome = "OK"
	case outcome == "":
		outcome = Code(d.Err)
	}
	attrs := []slog.Attr{
		slog.String("step", string(d.Step)),
		slog.String("outcome", outcome),
		slog.Duration("lookup", d.Lookup),
	}
	if d.required != nil {
		attrs = append(attrs, slog.String("required", d.required.scopes.join(" ")))
	}
	if d.record != nil {
		attrs = append(attrs, slog.Attr{Key: "key", Value: d.record.LogValue()})
	}
	return slog.GroupValue(attrs...)
}

// String returns what LogValue returns, as name=value pairs on one line.
func (d Decision) String() string {
	var b strings.Builder
	writePairs(&b, "", d.LogValue().Group())
	return b.String()
}

// Format writes what String returns, for every verb but %p, %T and %w, which
// package fmt does not pass on.
func (d Decision) Format(f fmt.State, verb rune) { io.WriteString(f, d.String()) }

func writePairs(b *strings.Builder, group string, attrs []slog.Attr) {
	for _, attr := range attrs {
		if attr.Value.Kind() == slog.KindGroup {
			writePairs(b, attr.Key+".", attr.Value.Group())
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		value := attr.Value.String()
		if value == "" || strings.ContainsAny(value, " =\"") || oneLine(value) != value {
			value = strconv.Quote(value)
		}
		b.WriteString(group + attr.Key + "=" + value)
	}
}
