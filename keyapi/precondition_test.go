package keyapi_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
)

var tags = []struct {
	field string
	match bool // for revision 2
	bad   bool
}{
	{`"2"`, true, false}, {`W/"2"`, true, false}, {`"2-gzip"`, true, false}, {`"2;gzip"`, true, false},
	{`"2--gzip"`, true, false}, {`W/"2-br"`, true, false},
	{`"2"-gzip`, true, false}, {`"2";gzip`, true, false}, {`*`, true, false}, {` * `, true, false},
	{`"1", "2"`, true, false}, {`"1","a,b" , W/"2"`, true, false}, {`"2",`, true, false},
	{`"1"`, false, false}, {`"3"`, false, false}, {`"22"`, false, false}, {`"02"`, false, false},
	{`"2.0"`, false, false}, {`"+2"`, false, false}, {`"-2"`, false, false}, {`" 2"`, false, false},
	{`"2-"`, false, false}, {`"2gzip"`, false, false}, {`"2-1"`, false, false}, {`""`, false, false},
	{`"gzip"`, false, false}, {`"-gzip"`, false, false}, {`"99999999999999999999"`, false, false},
	{`2`, false, true}, {`"2`, false, true}, {`2"`, false, true}, {`w/"2"`, false, true}, {`W/2`, false, true},
	{`W/`, false, true}, {`,`, false, true}, {`"2" "3"`, false, true},
	{`"2"x`, false, true}, {`*, "2"`, false, true}, {`"2", *`, false, true}, {`'2'`, false, true},
	{`"2"-"3"`, false, true},
}

func TestIfMatch(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	for _, op := range []struct{ method, path, body string }{
		{"PATCH", "", `{"name":"new"}`}, {"PATCH", "", `{}`}, {"DELETE", "", ""}, {"POST", "/rotate", ""},
		{"POST", "/disable", ""},
		{"POST", "/enable", ""}, {"POST", "/revoke", ""}, {"POST", "/revoke", andCreated},
	} {
		key := c.create(`{"name":"key"}`)
		c.do("PATCH", "/"+key.id, `{"name":"changed"}`).is(200)
		for _, tag := range tags {
			if tag.match {
				continue
			}
			a := c.do(op.method, "/"+key.id+op.path, op.body, "If-Match", tag.field)
			if tag.bad {
				a.refused(a.what+" "+tag.field, 400, "INVALID_REQUEST", "If-Match")
			} else {
				a.refused(a.what+" "+tag.field, 412, "PRECONDITION_FAILED", "If-Match")
			}
		}
		equal(t, op.method+op.path+": revision after refusals", s.record(key.id).Revision, 2)
		c.do(op.method, "/unknown"+op.path, op.body, "If-Match", `"1"`).refused("unknown", 404, "NOT_FOUND", "id")
		for _, tag := range tags {
			if !tag.match {
				continue
			}
			key := c.create(`{"name":"key"}`)
			c.do("PATCH", "/"+key.id, `{"name":"changed"}`).is(200)
			if a := c.do(op.method, "/"+key.id+op.path, op.body, "If-Match", tag.field); a.status >= 300 {
				t.Errorf("%s with %s: status %d", a.what, tag.field, a.status)
			}
			c.do("DELETE", "/"+key.id, "")
		}
	}
}

func TestIfMatchInSeveralFields(t *testing.T) {
	c := newServer(t).client("acme", "*")
	c.do("PATCH", "/"+c.id, `{"name":"new"}`, "If-Match", `"7"`, "If-Match", `"1"`).is(200)
}

func TestIfMatchOfSelf(t *testing.T) {
	c := newServer(t).client("acme", "a")
	c.do("POST", "/self/rotate", "", "If-Match", `"2"`).refused("rotate", 412, "PRECONDITION_FAILED", "If-Match")
	c.do("POST", "/self/revoke", "", "If-Match", `"2"`).refused("revoke", 412, "PRECONDITION_FAILED", "If-Match")
	c.do("POST", "/self/rotate", "", "If-Match", `"1"`).is(201)
}

// Somebody else changes the key after PATCH has read it. The revision that is
// replaced counts.
func TestIfMatchAtOnce(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	changed := false
	s.store.update = func(r, successor *auth.Record) error {
		if !changed {
			changed = true
			_, err := s.manager.Unconfined("staff").Update(context.Background(), c.id,
				func(r *auth.Record) error { r.Name = "theirs"; return nil })
			must(t, err)
		}
		return s.store.MemoryStore.Update(context.Background(), r, successor)
	}
	c.do("PATCH", "/"+c.id, `{"name":"mine"}`, "If-Match", `"1"`).refused("stale", 412, "PRECONDITION_FAILED", "If-Match")
	equal(t, "name", s.record(c.id).Name, "theirs")
	changed = false
	c.do("PATCH", "/"+c.id, `{"name":"mine"}`).is(200)
}

func TestIfNoneMatch(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	c.do("PATCH", "/"+c.id, `{"name":"changed"}`).is(200)
	must(t, s.store.Touch(context.Background(), map[string]time.Time{c.id: time.Now()}))
	equal(t, "ETag after a use", c.do("GET", "/"+c.id, "").header.Get("ETag"), `"2"`)
	for _, tag := range tags {
		for _, method := range []string{"GET", "HEAD"} {
			a := c.do(method, "/"+c.id, "", "If-None-Match", tag.field)
			want := 200
			switch {
			case tag.bad:
				want = 400
			case tag.match:
				want = 304
				equal(t, tag.field+": body", a.text, "")
			}
			equal(t, method+" "+strings.TrimSpace(tag.field), a.status, want)
			if want != 400 {
				equal(t, tag.field+": ETag", a.header.Get("ETag"), `"2"`)
			}
		}
	}
	c.do("GET", "/unknown", "", "If-None-Match", "*").refused("unknown", 404, "NOT_FOUND", "id")
}

// The status of a key changes with time alone, without a revision.
func TestIfNoneMatchOfExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newServer(t).client("acme", "*")
		key := c.create(`{"name":"key","expiresAt":"` + time.Now().Add(time.Hour).Format(time.RFC3339) + `"}`)
		a := c.do("GET", "/"+key.id, "", "If-None-Match", `"1"`)
		equal(t, "status before", a.status, 304)
		time.Sleep(2 * time.Hour)
		a = c.do("GET", "/"+key.id, "", "If-None-Match", `"1"`).is(200)
		equal(t, "status", a.str("status"), "expired")
	})
}

func TestOtherPreconditions(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	c.do("GET", "/"+c.id, "", "If-Match", `"2"`).refused("GET", 412, "PRECONDITION_FAILED", "If-Match")
	c.do("GET", "/"+c.id, "", "If-Match", `"2"`, "If-None-Match", `"1"`).refused("both", 412, "PRECONDITION_FAILED", "If-Match")
	for _, tag := range []string{"*", `"1"`} {
		for _, op := range []struct{ method, path, body string }{
			{"PATCH", "", `{"name":"new"}`}, {"DELETE", "", ""}, {"POST", "/rotate", ""}, {"POST", "/disable", ""},
			{"POST", "/revoke", andCreated},
		} {
			c.do(op.method, "/"+c.id+op.path, op.body, "If-None-Match", tag).refused(op.method+op.path+" "+tag, 412,
				"PRECONDITION_FAILED", "If-None-Match")
		}
	}
	equal(t, "revision", s.record(c.id).Revision, 1)
	c.do("PATCH", "/"+c.id, `{"name":"new"}`, "If-None-Match", `"7"`).is(200)
}

// The Location of a new key is relative, so that it is right wherever the API is
// mounted.
func TestLocation(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	base, err := url.Parse("https://example.com/a/b" + prefix)
	must(t, err)
	last := c.create(`{"name":"key"}`).id
	for _, path := range []string{"", "/", "/{id}/rotate", "/{id}/rotate/", "/self/rotate"} {
		at := strings.Replace(path, "{id}", last, 1)
		body := ""
		if !strings.Contains(path, "rotate") {
			body = `{"name":"key"}`
		}
		a := c.do("POST", at, body).is(201)
		location := base.JoinPath() // a copy
		location.Path += at
		location, err := location.Parse(a.header.Get("Location"))
		must(t, err)
		equal(t, path, location.Path, base.Path+"/"+a.str("id"))
		last = a.str("id")
	}
}

func TestServerOfOpenAPI(t *testing.T) {
	c := newServer(t).client("acme", "*")
	servers := c.do("GET", "/openapi.json", "").is(200).body["servers"].([]any)
	doc, err := url.Parse("https://example.com/a" + prefix + "/openapi.json")
	must(t, err)
	server, err := doc.Parse(servers[0].(map[string]any)["url"].(string))
	must(t, err)
	equal(t, "URL", server.String()+"/self", "https://example.com/a"+prefix+"/self")
}

func TestEncodedBody(t *testing.T) {
	c := newServer(t).client("acme", "*")
	for _, codings := range [][]string{{"gzip"}, {"identity", "gzip"}} {
		var fields []string
		for _, coding := range codings {
			fields = append(fields, "Content-Encoding", coding)
		}
		a := c.do("PATCH", "/"+c.id, `{"name":"new"}`, fields...)
		a.refused(strings.Join(codings, ", "), 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Encoding")
		equal(t, "Accept-Encoding", a.header.Get("Accept-Encoding"), "identity")
		equal(t, "Accept-Patch", a.header.Get("Accept-Patch"), "")
	}
}
