package keyapi_test

import (
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/insigner/auth/keyapi"
)

func TestBadBodies(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	for _, b := range []struct{ body, place string }{
		{`[]`, "body"}, {`null`, "body"}, {`"name"`, "body"}, {`7`, "body"}, {` `, "body"}, {``, "body"},
		{`{"name":"key"}{}`, "body"}, {`{"name":"key"} null`, "body"}, {`{"name":"key"}}`, "body"},
		{`{"name":"key"`, "body"}, {`{"name":"key",}`, "body"},
		{`{name:"key"}`, "body"}, {`{'name':'key'}`, "body"}, {`{"name":"key"} // comment`, "body"},
		{"\ufeff" + `{"name":"key"}`, "body"},
		{`{"name":"k` + "\xff" + `"}`, "body"}, {`{"name":"k` + "\n" + `"}`, "body"}, {`{"name":"\ud800"}`, "body"},
		{`{"name":"\udc00\ud800"}`, "body"},
		{`{"name":"\ud83dx"}`, "body"}, {`{"name":"\ud83d\u0041"}`, "body"}, {`{"name":"key","\uDBFF":1}`, "body"},
		{strings.Repeat(`[`, 20000), "body"}, {strings.Repeat(`[`, 20000) + strings.Repeat(`]`, 20000), "body"},
		{`{"name":"key","Name":"x"}`, "/Name"}, {`{"NAME":"key"}`, "/NAME"},
		{`{"name":"key","expires_at":null}`, "/expires_at"}, {`{"name":"key","scope":["a"]}`, "/scope"},
		{`{"name":"key","":1}`, "/"}, {`{"name":"key","a/b~c":1}`, "/a~1b~0c"},
		{`{"name":"key","__proto__":{}}`, "/__proto__"},
		{`{"name":"key","` + strings.Repeat("x", 32) + `":1}`, "body"},
		{`{"name":"key","name":"key"}`, "/name"}, {`{"name":"key","n\u0061me":"key"}`, "/name"},
		{`{"name":"key","scopes":[],"scopes":["*"]}`, "/scopes"},
		{`{"name":"key","id":"x"}`, "/id"}, {`{"name":"key","owner":"globex"}`, "/owner"},
		{`{"name":"key","key":"isk_x"}`, "/key"}, {`{"name":"key","createdBy":"x"}`, "/createdBy"},
		{`{"name":"key","status":"active"}`, "/status"}, {`{"name":"key","revision":1}`, "/revision"},
		{`{"name":"key","metadata":{}}`, "/metadata"}, {`{"name":"key","once":"x"}`, "/once"},
		{`{"name":7}`, "/name"}, {`{"name":["key"]}`, "/name"}, {`{"name":{}}`, "/name"}, {`{"name":true}`, "/name"},
		{`{"name":"key","scopes":"a"}`, "/scopes"}, {`{"name":"key","scopes":{}}`, "/scopes"},
		{`{"name":"key","scopes":["a",7]}`, "/scopes/1"},
		{`{"name":"key","scopes":[null]}`, "/scopes/0"}, {`{"name":"key","scopes":[["a"]]}`, "/scopes/0"},
		{`{"name":"key","expiresAt":7}`, "/expiresAt"}, {`{"name":"key","expiresAt":"tomorrow"}`, "/expiresAt"},
		{`{"name":"key","expiresAt":""}`, "/expiresAt"},
		{`{"name":"key","expiresAt":"2999-01-01"}`, "/expiresAt"},
		{`{"name":"key","expiresAt":"2999-01-01T00:00:00"}`, "/expiresAt"},
		{`{"name":"key","expiresAt":"2999-1-1T00:00:00Z"}`, "/expiresAt"},
		{`{"name":"key","expiresAt":"2999-01-01T24:00:00Z"}`, "/expiresAt"},
		{`{"name":"key","expiresAt":"2999-02-29T00:00:00Z"}`, "/expiresAt"},
		{`{"name":"key","expiresAt":"2999-01-01T1:00:00Z"}`, "/expiresAt"},
		{`{"name":"key","expiresAt":"2999-01-01T00:00:00+24:00"}`, "/expiresAt"},
		{`{"name":"key","expiresAt":"2999-01-01T00:00:00,5Z"}`, "/expiresAt"},
		{`{"name":"key","expiresAt":"99999-01-01T00:00:00Z"}`, "/expiresAt"},
		{`{"name":"key","expiresAt":"9999-12-31T23:59:59-01:00"}`, "/expiresAt"},
		{`{"name":"key","expiresAt":"0000-01-01T00:00:00Z"}`, "/expiresAt"},
	} {
		what := fmt.Sprintf("%.80q", b.body)
		fields := []string{"Content-Type", "application/json"}
		c.do("POST", "", b.body, fields...).refused("POST "+what, 400, "INVALID_REQUEST", b.place)
		c.do("PATCH", "/"+c.id, b.body, fields...).refused("PATCH "+what, 400, "INVALID_REQUEST", b.place)
	}
	equal(t, "keys", len(c.do("GET", "", "").ids()), 1)
	equal(t, "revision", s.record(c.id).Revision, 1)
}

func TestUnprocessableBodies(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	for _, b := range []struct{ body, place string }{
		{`{"name":""}`, "/name"}, {`{"name":null}`, "/name"}, {`{"name":" \u3000\t"}`, "/name"},
		{`{"name":"\u202e\u200b"}`, "/name"}, {`{"name":"a\u0000b"}`, "/name"},
		{`{"name":"` + strings.Repeat("x", 256) + `"}`, "/name"}, {`{"name":"` + strings.Repeat("ä", 128) + `"}`, "/name"},
		{`{"name":"key","scopes":[""]}`, "/scopes/0"}, {`{"name":"key","scopes":["a","b c"]}`, "/scopes/1"},
		{`{"name":"key","scopes":["a.*.b"]}`, "/scopes/0"},
		{`{"name":"key","scopes":["` + strings.Repeat(`a","`, 256) + `a"]}`, "/scopes"},
		{`{"name":"key","expiresAt":"2020-01-01T00:00:00Z"}`, "/expiresAt"},
		{`{"name":"key","expiresAt":"0001-01-01T00:00:00Z"}`, "/expiresAt"},
		{`{"name":"key","expiresAt":"0001-01-01T05:00:00+05:00"}`, "/expiresAt"},
		{`{"name":"key","expiresAt":"0001-01-01T00:00:00.000000001Z"}`, "/expiresAt"},
	} {
		what := fmt.Sprintf("%.80q", b.body)
		c.do("POST", "", b.body).refused("POST "+what, 422, "INVALID_ARGUMENT", b.place)
		c.do("PATCH", "/"+c.id, b.body).refused("PATCH "+what, 422, "INVALID_ARGUMENT", b.place)
	}
	c.do("POST", "", `{}`).refused("no name", 422, "INVALID_ARGUMENT", "/name")
	equal(t, "keys", len(c.do("GET", "", "").ids()), 1)
	equal(t, "revision", s.record(c.id).Revision, 1)
	equal(t, "expiry", s.record(c.id).ExpiresAt.IsZero(), true)
}

func TestOddNames(t *testing.T) {
	c := newServer(t).client("acme", "*")
	for _, name := range []string{`<script>alert(1)</script>`, "a\u202eb", "😀", `"\`, "a\r\nSet-Cookie: x",
		strings.Repeat("x", 255), "\ufffd"} {
		a := c.do("POST", "", fmt.Sprintf(`{"name":%s}`, canonical(name))).is(201)
		equal(t, "name", a.str("name"), name)
		equal(t, "name in the list", c.do("GET", "?limit=1", "").data()[0]["name"], any(name))
	}
	equal(t, "surrogate pair", c.do("POST", "", `{"name":"\ud83d\ude00 \\ud800"}`).is(201).str("name"), `😀 \ud800`)
}

func TestGraceSeconds(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	for _, g := range []struct {
		value  string
		status int
		code   string
	}{
		{`-1`, 422, "INVALID_ARGUMENT"}, {`2592001`, 422, "INVALID_ARGUMENT"}, {`9223372037`, 422, "INVALID_ARGUMENT"},
		{`18446744074`, 422, "INVALID_ARGUMENT"},
		{`99999999999999999999999999`, 422, "INVALID_ARGUMENT"}, {`-99999999999999999999999999`, 422, "INVALID_ARGUMENT"},
		{`1.5`, 400, "INVALID_REQUEST"}, {`1.0`, 400, "INVALID_REQUEST"}, {`1e2`, 400, "INVALID_REQUEST"},
		{`1e400`, 400, "INVALID_REQUEST"}, {`"60"`, 400, "INVALID_REQUEST"},
		{`null`, 400, "INVALID_REQUEST"}, {`true`, 400, "INVALID_REQUEST"}, {`[1]`, 400, "INVALID_REQUEST"},
		{`""`, 400, "INVALID_REQUEST"},
	} {
		for _, path := range []string{"/" + c.id + "/rotate", "/self/rotate"} {
			c.do("POST", path, `{"graceSeconds":`+g.value+`}`).refused(g.value, g.status, g.code, "/graceSeconds")
		}
	}
	equal(t, "revision", s.record(c.id).Revision, 1)
	c.do("POST", "/self/rotate", `{"graceSeconds":-0}`).is(201)
}

// Operations without members take an empty body, or an empty object.
func TestBodyWithoutMembers(t *testing.T) {
	c := newServer(t).client("acme", "*")
	for _, op := range []string{"disable", "enable", "revoke", "rotate"} {
		path := "/" + c.id + "/" + op
		c.do("POST", path, `{"force":true}`).refused(op, 400, "INVALID_REQUEST", "/force")
		c.do("POST", path, `[]`).refused(op, 400, "INVALID_REQUEST", "body")
		c.do("POST", path, `{}`, "Content-Type", "text/plain").refused(op, 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type")
	}
	c.do("DELETE", "/"+c.id, andCreated).refused("DELETE", 400, "INVALID_REQUEST", "/andCreated")
	key := c.create(`{"name":"key"}`)
	c.do("POST", "/"+key.id+"/disable", "{}").is(200)
	c.do("POST", "/"+key.id+"/enable", "").is(200)
	c.do("POST", "/"+key.id+"/enable", "", "Content-Type", "text/plain").is(200)
}

func TestMediaType(t *testing.T) {
	c := newServer(t).client("acme", "*")
	for _, m := range []struct {
		mediaType   string
		post, patch int
	}{
		{"application/json", 201, 200}, {"APPLICATION/JSON", 201, 200}, {"application/json; charset=utf-8", 201, 200},
		{`application/json;charset="UTF-8"`, 201, 200},
		{"application/merge-patch+json", 415, 200}, {"application/json-patch+json", 415, 415},
		{"application/vnd.api+json", 415, 415}, {"text/json", 415, 415},
		{"", 415, 415}, {"application/x-www-form-urlencoded", 415, 415}, {"text/plain", 415, 415},
		{"multipart/form-data; boundary=x", 415, 415},
		{"application/json, text/plain", 415, 415}, {"application/json; charset", 415, 415}, {"json", 415, 415},
		{"application/jsonx", 415, 415},
		{"application/json; charset=latin1", 415, 415}, {"application/merge-patch+json; charset=utf-16", 415, 415},
		{"application/merge-patch+json; charset=UTF-8", 415, 200}, {"application/json; charset=", 415, 415},
	} {
		a := c.do("POST", "", `{"name":"key"}`, "Content-Type", m.mediaType)
		equal(t, "POST as "+m.mediaType, a.status, m.post)
		if m.post == 415 {
			a.refused("POST as "+m.mediaType, 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type")
		}
		a = c.do("PATCH", "/"+c.id, `{"name":"key"}`, "Content-Type", m.mediaType)
		equal(t, "PATCH as "+m.mediaType, a.status, m.patch)
		if m.patch == 415 {
			a.refused("PATCH as "+m.mediaType, 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type")
			equal(t, "Accept-Patch", a.header.Get("Accept-Patch"), "application/merge-patch+json, application/json")
		}
	}
	c.do("POST", "", `{"name":"key"}`, "Content-Type", "application/json", "Content-Type",
		"application/json").refused("twice", 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type")
	c.do("POST", "", `{"name":"key"}`, "Content-Encoding", "gzip").refused("gzip", 415, "UNSUPPORTED_MEDIA_TYPE",
		"Content-Encoding")
	c.do("POST", "", `{"name":"key"}`, "Content-Encoding", "identity").is(201)
}

func TestBodySize(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	body := `{"name":"key"}`
	c.do("POST", "", body+strings.Repeat(" ", 64<<10-len(body))).is(201)
	long := body + strings.Repeat(" ", 64<<10-len(body)+1)
	for _, rt := range keyapi.Routes() {
		if rt[0] != "GET" {
			path := strings.ReplaceAll(rt[1], "{id}", c.id)
			c.do(rt[0], path, long).refused(rt[0]+" "+path, 413, "BODY_TOO_LARGE", "body")

			r := httptest.NewRequest(rt[0], prefix+path, io.MultiReader(strings.NewReader(long))) // chunked
			r.Header.Set("Authorization", "Bearer "+c.secret)
			s.send(r).refused("chunked", 413, "BODY_TOO_LARGE", "body")

			r = httptest.NewRequest(rt[0], prefix+path, failingReader{errors.New("read")})
			r.ContentLength = 64<<10 + 1
			r.Header.Set("Authorization", "Bearer "+c.secret)
			s.send(r).refused("without reading it", 413, "BODY_TOO_LARGE", "body")
		}
	}
	equal(t, "revision", s.record(c.id).Revision, 1)
}

func TestUnreadableBody(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	for _, b := range []struct {
		err    error
		status int
		code   string
	}{
		{errors.New("connection reset"), 400, "INVALID_REQUEST"},
		{fmt.Errorf("read: %w", os.ErrDeadlineExceeded), 408, "REQUEST_TIMEOUT"},
	} {
		r := httptest.NewRequest("POST", prefix, failingReader{b.err})
		r.Header.Set("Authorization", "Bearer "+c.secret)
		s.send(r).refused(b.err.Error(), b.status, b.code, "body")
	}
}
