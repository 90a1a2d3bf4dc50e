package keyapi_test

import (
	"strings"
	"testing"

	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
)

// A refusal says how to mend the request.
func TestDetails(t *testing.T) {
	s := newServer(t, func(o *keyapi.Options, _ *keyring.Options) { o.Metadata = []string{"team"} })
	c := s.client("acme", "*")
	rotated := c.create(`{"name":"key"}`).id
	c.do("POST", "/"+rotated+"/rotate", `{"graceSeconds":60}`).is(201)
	c.do("POST", "", `{"name":"key"}`, "Idempotency-Key", "1").is(201)
	const rfc3339 = "must be a time of RFC 3339, such as 2027-03-31T23:59:59Z"
	for _, r := range []struct {
		method, path, body string
		field, value       string
		detail             string
	}{
		{"POST", "", `{"name":`, "", "", "The body is not valid JSON"},
		{"POST", "", `nonsense`, "", "", "The body is not valid JSON"},
		{"POST", "", ` `, "", "", "The body is not valid JSON"},
		{"POST", "", `{"name":"a"}}`, "", "", "The body is not valid JSON"},
		{"POST", "", `{"name":"a"}{"name":"b"}`, "", "", "The body is not one JSON value; send one object"},
		{"POST", "", `[]`, "", "", "The body must be a JSON object"},
		{"POST", "", ``, "", "", "The body is empty; send a JSON object"},
		{"POST", "", `{"name":"a","metadata":[]}`, "", "", "The metadata must be a JSON object"},
		{"POST", "", `{"name":"a","expiresAt":"tomorrow"}`, "", "", "The expiry " + rfc3339},
		{"POST", "/self/revoke", `[]`, "", "", "The body must be a JSON object"},
		{"POST", "/x/revoke", `{"andCreated":"yes"}`, "", "", "andCreated must be true or false"},
		{"POST", "/x/rotate", `{"graceSeconds":"60"}`, "", "", "graceSeconds must be an integer"},
		{"POST", "/x/rotate", `{"graceSeconds":-1}`, "", "", "The number of seconds must be between 0 and 2592000"},
		{"POST", "", `{}`, "Content-Type", "text/plain", "The Content-Type must be application/json"},
		{"PATCH", "/x", `{}`, "Content-Type", "text/plain",
			"The Content-Type must be application/merge-patch+json or application/json"},
		{"POST", "", `{}`, "Content-Type", "application/json; charset=latin1", "The charset of the Content-Type must be utf-8"},
		{"POST", "", `{}`, "Idempotency-Key", strings.Repeat("x", 249), "Idempotency-Key must have 1 to 248 characters"},
		{"POST", "", `{}`, "Idempotency-Key", "é", "Idempotency-Key must be printable ASCII"},
		{"POST", "", `{"name":"other"}`, "Idempotency-Key", "1",
			"This Idempotency-Key was used for another request, or that can no longer be checked; use a new one"},
		{"PUT", "/x", ``, "", "", "The path permits DELETE, GET, HEAD, PATCH only"},
		{"POST", "/openapi.json", ``, "", "", "The path permits GET, HEAD only"},
		{"POST", "/self/disable", ``, "", "", "There is no such path; use the ID of the key in place of self"},
		{"GET", "/self/events", ``, "", "", "There is no such path; use the ID of the key in place of self"},
		{"GET", "/self/x", ``, "", "", "There is no such path"},
		{"GET", "?status=active&status=revoked", ``, "", "", "The parameter occurs twice; separate values by commas"},
		{"GET", "?q=a&q=b", ``, "", "", "The parameter occurs twice"},
		{"GET", "?cursor=x", ``, "", "",
			"The cursor is not one of this list with these filters, or too old; leave it out to start again"},
		{"GET", "/events?kind=create", ``, "", "",
			"The kind must be created, updated, rotated, disabled, enabled, revoked or deleted"},
		{"GET", "/events?from=yesterday", ``, "", "", "The parameter " + rfc3339},
		{"GET", "/events?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", ``, "", "", "from is after to"},
		{"PATCH", "/" + c.id, `{}`, "If-Match", `"9"`, "The key has been changed: it has another revision; read it again"},
		{"PATCH", "/" + c.id, `{}`, "If-Match", `9`, `If-Match must be "*" or entity tags in double quotes, such as "3"`},
		{"POST", "/" + rotated + "/rotate", ``, "", "", "The key has been rotated already; rotate its successor, rotatedTo"},
	} {
		var fields []string
		if r.field != "" {
			fields = []string{r.field, r.value}
		}
		a := c.do(r.method, r.path, r.body, fields...)
		equal(t, a.what+" "+r.body, a.str("detail"), r.detail)
	}
}

// An empty range is valid.
func TestEventsUntilFrom(t *testing.T) {
	c := newServer(t).client("acme", "*")
	const at = "2026-01-01T00:00:00Z"
	equal(t, "events", len(c.do("GET", "/events?from="+at+"&to="+at, "").is(200).ids()), 0)
	c.do("GET", "/events?from=2026-01-01T00:00:00.1Z&to="+at, "").refused("from after to", 400, "INVALID_REQUEST", "from")
}

// Under /self, no ID is in the path that could be wrong.
func TestSelfNamesNoID(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	c.do("POST", "/self/disable", "").refused("disable", 404, "NOT_FOUND", "")
	c.do("POST", "/self/rotate", `{"graceSeconds":60}`).is(201)
	c.do("POST", "/self/rotate", "").refused("rotate twice", 409, "KEY_ROTATED", "")
	c.do("POST", "/"+c.id+"/rotate", "").refused("by its ID", 409, "KEY_ROTATED", "id")
}
