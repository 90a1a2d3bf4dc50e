package keyapi_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
)

// The model has the rules of the API in the plainest form. It has no clock: a
// key expires only when it is rotated without a grace.

var modelOwners = []string{"owner-one", "owner-two"}

// A modelKey is what the model knows about a key.
type modelKey struct {
	client                              *client
	owner, name, creator, once, asked   string
	scopes                              []string
	revision                            int64
	revoked, disabled, rotated, expired bool
	deleted                             bool
}

func (k *modelKey) covers(scopes ...string) bool {
	return !slices.ContainsFunc(scopes, func(s string) bool {
		return !slices.ContainsFunc(k.scopes, func(held string) bool {
			return held == s || held == "*" || held == "a.*" && strings.HasPrefix(s, "a.")
		})
	})
}

// A model is all keys that there ever were.
type model struct {
	*server
	keys    []*modelKey // oldest first
	secrets []string    // that were in an answer
	step    string
}

func newModel(t *testing.T) *model {
	m := &model{server: newServer(t, func(o *keyapi.Options, k *keyring.Options) { o.Scope, k.MaxKeys = "keys", 1000 })}
	for _, owner := range modelOwners {
		for _, scopes := range [][]string{{"*"}, {"keys", "a.*"}, {"a.b"}} {
			spec := keyring.Spec{Name: "key of " + owner, Owner: owner}
			for _, s := range scopes {
				spec.Scopes = append(spec.Scopes, auth.Scope(s))
			}
			c := m.clientWith(spec)
			m.keys = append(m.keys, &modelKey{client: c, owner: owner, name: spec.Name, scopes: scopes, revision: 1})
			m.secrets = append(m.secrets, c.secret)
		}
	}
	return m
}

// A source chooses, by bytes that the fuzzer gives it.
type source struct{ data []byte }

func (s *source) choose(n int) int {
	if len(s.data) == 0 {
		return 0
	}
	c := int(s.data[0]) % n
	s.data = s.data[1:]
	return c
}

// text returns raw bytes.
func (s *source) text() string {
	n := min(s.choose(40), len(s.data))
	text := string(s.data[:n])
	s.data = s.data[n:]
	return text
}

// ask sends a request, and checks what is true of each answer to an owner.
func (m *model) ask(k *modelKey, method, path, body string, fields ...string) *answer {
	m.t.Helper()
	a := k.client.do(method, path, body, fields...)
	if a.status >= 500 {
		m.t.Fatalf("%s: %s %s: status %d: %s", m.step, method, path, a.status, a.text)
	}
	all := a.text + fmt.Sprint(a.header)
	for _, secret := range m.secrets {
		if strings.Contains(all, secret) {
			m.t.Fatalf("%s: a secret appears twice", m.step)
		}
	}
	if secret := a.str("key"); secret != "" {
		m.secrets = append(m.secrets, secret)
	}
	if got := a.str("key") != ""; got != (a.status == 201) {
		m.t.Fatalf("%s: status %d, with a secret: %v", m.step, a.status, got)
	}
	for _, other := range m.keys {
		if other.owner != k.owner && (strings.Contains(all, other.owner) || strings.Contains(all, other.client.id)) {
			m.t.Fatalf("%s: %s %s shows the key of another owner: %s", m.step, method, path, all)
		}
	}
	return a
}

// expect checks the status of an answer.
func (m *model) expect(a *answer, want int) {
	m.t.Helper()
	if a.status != want {
		m.t.Fatalf("%s: %s: status %d, want %d: %s", m.step, a.what, a.status, want, a.text)
	}
}

// refuses returns the status with which every request by k is refused, or 0.
func (m *model) refuses(k *modelKey, manages bool) int {
	switch {
	case k.deleted, k.revoked, k.disabled, k.expired:
		return 401
	case manages && !k.covers("keys"):
		return 403
	}
	return 0
}

// any returns a key that s chooses. After Delete, an Idempotency-Key makes
// another key with the same ID, and the newest counts.
func (m *model) any(s *source) *modelKey { return m.newest(m.keys[s.choose(len(m.keys))].client.id) }

func (m *model) newest(id string) *modelKey {
	for _, k := range slices.Backward(m.keys) {
		if k.client.id == id {
			return k
		}
	}
	return nil
}

// theirs returns the keys of an owner that exist, newest first.
func (m *model) theirs(owner string) (ids []string) {
	for _, k := range slices.Backward(m.keys) {
		if k.owner == owner && !k.deleted {
			ids = append(ids, k.client.id)
		}
	}
	return ids
}

// made adds the key in an answer.
func (m *model) made(a *answer, creator *modelKey, k modelKey) {
	k.client = &client{m.server, a.str("id"), a.str("key")}
	k.owner, k.creator = creator.owner, creator.client.id
	k.revision = int64(a.body["revision"].(float64))
	m.keys = append(m.keys, &k)
}

// run makes one step that s chooses.
func (m *model) run(n int, s *source) {
	by := m.keys[s.choose(len(m.keys))]
	op := s.choose(18)
	m.step = fmt.Sprintf("step %d, operation %d by a key of %s with %v", n, op, by.owner, by.scopes)
	if op < 4 {
		m.self(by, op, s)
		return
	}
	if op < 8 {
		m.lists(by, op, s)
		return
	}
	if op == 8 {
		m.garbage(by, s)
		return
	}
	if op < 12 {
		m.create(by, s)
		return
	}
	k := m.any(s)
	want := m.refuses(by, true)
	var fields []string
	stale := false
	if s.choose(4) == 0 {
		revision := k.revision
		if s.choose(2) == 0 {
			revision--
		}
		stale = revision != k.revision
		fields = []string{"If-Match", fmt.Sprintf(`"%d"`, revision)}
	}
	if want == 0 && (k.owner != by.owner || k.deleted) {
		want = 404
		if op == 16 && len(fields) == 0 && k.owner == by.owner {
			want = 0 // a deleted key can be revoked with what it created
		}
	}
	path := "/" + k.client.id
	if want == 0 && stale && op != 12 {
		want = 412
	}
	switch op {
	case 12:
		m.update(by, k, path, want, stale, fields, s)
	case 13:
		grace := s.choose(2) * 3600
		a := m.ask(by, "POST", path+"/rotate", fmt.Sprintf(`{"graceSeconds":%d}`, grace), fields...)
		m.rotated(a, by, k, grace, want)
	case 14:
		if want == 0 {
			want = 200
			if k.revoked {
				want = 409
			}
		}
		m.expect(m.ask(by, "POST", path+"/disable", "", fields...), want)
		if want == 200 && !k.disabled {
			k.disabled = true
			k.revision++
		}
	case 15:
		if want == 0 {
			want = 200
			if k.revoked {
				want = 409
			} else if k.disabled && !by.covers(k.scopes...) {
				want = 403
			}
		}
		m.expect(m.ask(by, "POST", path+"/enable", "", fields...), want)
		if want == 200 && k.disabled {
			k.disabled = false
			k.revision++
		}
	case 16:
		m.revoke(by, k, path, want, s.choose(2) == 0 || k.deleted, fields)
	case 17:
		if want == 0 {
			want = 204
		}
		m.expect(m.ask(by, "DELETE", path, "", fields...), want)
		k.deleted = k.deleted || want == 204
	}
}

// self makes a request that any key may send.
func (m *model) self(by *modelKey, op int, s *source) {
	want := m.refuses(by, false)
	switch op {
	case 0, 1:
		if want == 0 {
			want = 200
		}
		a := m.ask(by, "GET", "/self", "")
		m.expect(a, want)
		if want == 200 {
			equal(m.t, m.step+": ID", a.str("id"), by.client.id)
			same(m.t, m.step+": scopes", a.body["scopes"], by.scopes)
		}
	case 2:
		grace := s.choose(2) * 3600
		a := m.ask(by, "POST", "/self/rotate", fmt.Sprintf(`{"graceSeconds":%d}`, grace))
		m.rotated(a, by, by, grace, want)
	case 3:
		if want == 0 {
			want = 200
		}
		m.expect(m.ask(by, "POST", "/self/revoke", ""), want)
		m.ends(by, want == 200)
	}
}

// lists reads.
func (m *model) lists(by *modelKey, op int, s *source) {
	want := m.refuses(by, true)
	if want == 0 {
		want = 200
	}
	switch op {
	case 4:
		a := m.ask(by, "GET", "?limit=200", "")
		m.expect(a, want)
		if want == 200 {
			got, theirs := a.ids(), m.theirs(by.owner)
			if len(theirs) <= 200 {
				slices.Sort(got)
				slices.Sort(theirs)
				same(m.t, m.step+": IDs", got, theirs)
			}
		}
	case 5:
		m.expect(m.ask(by, "GET", "/events?limit=200", ""), want)
	case 6:
		k := m.any(s)
		if want == 200 && k.owner != by.owner {
			want = 404
		}
		m.expect(m.ask(by, "GET", "/"+k.client.id+"/events", ""), want)
	case 7:
		k := m.any(s)
		if want == 200 && (k.owner != by.owner || k.deleted) {
			want = 404
		}
		a := m.ask(by, "GET", "/"+k.client.id, "")
		m.expect(a, want)
		if want == 404 {
			equal(m.t, m.step+": answer as for an unknown key", a.text, m.ask(by, "GET", "/unknown", "").text)
		}
		if want == 200 {
			equal(m.t, m.step+": ETag", a.header.Get("ETag"), fmt.Sprintf(`"%d"`, k.revision))
			equal(m.t, m.step+": name", a.str("name"), k.name)
			same(m.t, m.step+": scopes", a.body["scopes"], k.scopes)
			equal(m.t, m.step+": revoked", a.body["revokedAt"] != nil, k.revoked)
			equal(m.t, m.step+": disabled", a.body["disabledAt"] != nil, k.disabled)
			equal(m.t, m.step+": rotated", a.body["rotatedTo"] != nil, k.rotated)
		}
	}
}

// garbage sends bytes in each place where a client can put them.
func (m *model) garbage(by *modelKey, s *source) {
	path := "/" + (&url.URL{Path: s.text()}).EscapedPath()
	rt := keyapi.Routes()[s.choose(len(keyapi.Routes()))]
	if s.choose(2) == 0 {
		path = strings.ReplaceAll(rt[1], "{id}", url.PathEscape(s.text()))
	}
	r := httptest.NewRequest("GET", "/", strings.NewReader(s.text()))
	r.Method = rt[0]
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = prefix+path, "", s.text()
	if unescaped, err := url.PathUnescape(path); err == nil {
		r.URL.Path, r.URL.RawPath = prefix+unescaped, prefix+path
	}
	r.Header.Set("Content-Type", []string{"application/json", s.text()}[s.choose(2)])
	for _, name := range []string{"If-Match", "If-None-Match", "Idempotency-Key"} {
		if text := s.text(); text != "" {
			r.Header[http.CanonicalHeaderKey(name)] = []string{text}
		}
	}
	r.Header.Set("Authorization", "Bearer "+by.client.secret)
	w := httptest.NewRecorder()
	m.ServeHTTP(w, r)
	if w.Code >= 500 {
		m.t.Fatalf("%s: status %d for %s %q %q", m.step, w.Code, r.Method, path, r.URL.RawQuery)
	}
	if w.Code == 201 || w.Code == 204 || w.Code == 200 && r.Method != "GET" {
		m.keys = nil // by chance it was a good request, which the model cannot follow
	}
}

func (m *model) create(by *modelKey, s *source) {
	all := []string{"a.b", "a.c", "a.*", "keys", "*"}
	scopes := []string{}
	for range s.choose(3) {
		scopes = append(scopes, all[s.choose(len(all))])
	}
	once := []string{"", "x", "y"}[s.choose(3)]
	name := []string{"key", "other"}[s.choose(2)] + " of " + by.owner
	body, err := json.Marshal(map[string]any{"name": name, "scopes": scopes})
	must(m.t, err)
	want := m.refuses(by, true)
	var first *modelKey
	if want == 0 {
		want = 201
		i := slices.IndexFunc(m.keys, func(k *modelKey) bool {
			return once != "" && k.once == once && k.owner == by.owner &&
				!k.deleted
		})
		switch {
		case !by.covers(scopes...):
			want = 403
		case i >= 0 && m.keys[i].asked == string(body):
			want, first = 200, m.keys[i]
		case i >= 0:
			want = 422
		}
	}
	a := m.ask(by, "POST", "", string(body), "Idempotency-Key", once)
	m.expect(a, want)
	switch want {
	case 200:
		equal(m.t, m.step+": ID of the first", a.str("id"), first.client.id)
	case 201:
		m.made(a, by, modelKey{name: name, scopes: scopes, once: once, asked: string(body)})
	}
}

func (m *model) update(by, k *modelKey, path string, want int, stale bool, fields []string, s *source) {
	all := []string{"a.b", "a.c", "a.*", "keys", "*"}
	patch := make(map[string]any)
	name, scopes := k.name, k.scopes
	if s.choose(2) == 0 {
		name = []string{"key", "new"}[s.choose(2)] + " of " + k.owner
		patch["name"] = name
	}
	if s.choose(2) == 0 {
		scopes = []string{all[s.choose(len(all))], all[s.choose(len(all))]}
		patch["scopes"] = scopes
	}
	body, err := json.Marshal(patch)
	must(m.t, err)
	if want == 0 {
		want = 200
		switch {
		case k.revoked, k.expired:
			want = 409
		case stale:
			want = 412
		case !slices.Equal(scopes, k.scopes):
			for _, scope := range scopes {
				if !k.covers(scope) && !by.covers(scope) {
					want = 403
				}
			}
		}
	}
	m.expect(m.ask(by, "PATCH", path, string(body), fields...), want)
	if want == 200 && (name != k.name || !slices.Equal(scopes, k.scopes)) {
		k.name, k.scopes = name, scopes
		k.revision++
	}
}

func (m *model) rotated(a *answer, by, k *modelKey, grace, want int) {
	if want == 0 {
		want = 201
		switch {
		case k.revoked, k.rotated, k.disabled, k.expired:
			want = 409
		case !by.covers(k.scopes...):
			want = 403
		}
	}
	m.expect(a, want)
	if want != 201 {
		return
	}
	k.rotated, k.expired = true, grace == 0
	k.revision++
	m.made(a, by, modelKey{name: k.name, scopes: k.scopes})
}

func (m *model) revoke(by, k *modelKey, path string, want int, andCreated bool, fields []string) {
	body := ""
	if andCreated {
		body = `{"andCreated":true}`
	}
	if want == 0 {
		want = 200
	}
	a := m.ask(by, "POST", path+"/revoke", body, fields...)
	m.expect(a, want)
	if want != 200 {
		return
	}
	if !andCreated {
		m.ends(k, true)
		return
	}
	all := []string{k.client.id}
	var ids []string
	for i := 0; i < len(all); i++ {
		if k := m.newest(all[i]); !k.deleted {
			m.ends(k, true)
			ids = append(ids, all[i])
		}
		for _, made := range m.keys {
			if made.creator == all[i] && !slices.Contains(all, made.client.id) {
				all = append(all, made.client.id)
			}
		}
	}
	got, _ := a.body["revokedKeys"].([]any)
	slices.SortFunc(got, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
	slices.Sort(ids)
	if len(ids) > 0 || len(got) > 0 {
		same(m.t, m.step+": revokedKeys", got, ids)
	}
}

// ends revokes a key of the model, if ok.
func (m *model) ends(k *modelKey, ok bool) {
	if ok && !k.revoked {
		k.revoked = true
		k.revision++
	}
}

// FuzzRequests sends random requests as several customers, and compares each
// answer with the model.
func FuzzRequests(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(randomBytes(seed, 150))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, s := newModel(t), &source{data}
		for n := 0; n < 30 && len(s.data) > 0 && len(m.keys) > 0; n++ {
			m.run(n, s)
		}
	})
}

// TestRequestsAtRandom runs random sequences against the model.
func TestRequestsAtRandom(t *testing.T) {
	for seed := range uint64(300) {
		m, s := newModel(t), &source{randomBytes(seed+1000, 1500)}
		for n := 0; n < 300 && len(s.data) > 0 && len(m.keys) > 0; n++ {
			m.run(n, s)
		}
		if t.Failed() {
			t.Fatalf("the seed is %d", seed)
		}
	}
}

func randomBytes(seed uint64, n int) []byte {
	random := rand.New(rand.NewPCG(seed, 3))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return data
}
