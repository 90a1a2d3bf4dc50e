package keyapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
	"github.com/pb33f/libopenapi/orderedmap"
)

// An api is the API with a store in memory. It compares what it is asked, and
// what it answers, with the document.
type api struct {
	http.Handler
	t     *testing.T
	doc   *document
	store *store
	admin *keyring.Keyring
}

const (
	owner   = "acme"
	maxKeys = 5
	day     = 24 * time.Hour
)

func newAPI(t *testing.T, doc *document) *api {
	t.Helper()
	s := &store{MemoryStore: new(keyring.MemoryStore)}
	quiet := slog.New(slog.DiscardHandler)
	manager := keyring.NewManager(s, &keyring.Options{MaxKeys: maxKeys, MaxLifetime: 90 * day})
	handler := keyapi.New(manager, &keyapi.Options{Metadata: []string{"team"}, Logger: quiet})
	return &api{
		Handler: auth.New(s, &auth.Options{Logger: quiet}).Middleware(handler),
		t:       t,
		doc:     doc,
		store:   s,
		admin:   manager.Unconfined("setup"),
	}
}

// create creates a key of an owner.
func (a *api) create(owner string, scopes ...auth.Scope) (id, secret string) {
	a.t.Helper()
	r, key, err := a.admin.Create(a.t.Context(), keyring.Spec{Name: "key", Owner: owner, Scopes: scopes})
	must(a.t, err)
	return r.ID, key.Reveal()
}

// A request is one of the API.
type request struct {
	method, path, body string
	secret             string            // none if empty
	fields             map[string]string // of the header; the body is JSON unless Content-Type says otherwise
	broken             io.Reader         // if not nil, what the server reads instead of the body
	ctx                context.Context   // if not nil
	undocumented       bool              // the document does not permit it
}

// request returns a request that the API accepts, about a key of its own.
func (a *api) request(operation string) (r request, id string) {
	a.t.Helper()
	op := a.doc.operations[operation]
	id, _ = a.create(owner)
	_, secret := a.create(owner, "*")
	path := strings.Replace(op.path, "{id}", id, 1)
	return request{method: op.method, path: path, body: bodies[operation], secret: secret}, id
}

// http returns the request for net/http. Its body can be read once.
func (r *request) http() *http.Request {
	req := httptest.NewRequest(r.method, r.path, strings.NewReader(r.body))
	if r.ctx != nil {
		req = req.WithContext(r.ctx)
	}
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.secret != "" {
		req.Header.Set("Authorization", "Bearer "+r.secret)
	}
	for name, value := range r.fields {
		req.Header.Set(name, value)
	}
	return req
}

// An answer has a body that is a JSON object, or none.
type answer map[string]any

func (a answer) meta() map[string]any     { m, _ := a["meta"].(map[string]any); return m }
func (a answer) str(member string) string { s, _ := a[member].(string); return s }

// first returns the first entry of a list.
func (a answer) first() map[string]any { return a["data"].([]any)[0].(map[string]any) }

// do sends a request. It compares the request, and the answer, with the
// document.
func (a *api) do(operation string, r request, status int) answer {
	a.t.Helper()
	what := fmt.Sprintf("%s: %s %.80s %.80s", operation, r.method, r.path, r.body)
	permitted, errs := a.doc.ValidateHttpRequest(r.http())
	if permitted == r.undocumented {
		a.t.Errorf("%s: the document permits it: %v, want %v%s", what, permitted, !permitted, lines(errs))
	}
	sent, w := r.http(), httptest.NewRecorder()
	if r.broken != nil {
		sent.Body, sent.ContentLength = io.NopCloser(r.broken), -1
	}
	a.ServeHTTP(w, sent)
	if w.Code != status {
		a.t.Fatalf("%s: status %d, want %d: %s", what, w.Code, status, w.Body)
	}
	if errs := a.doc.checkAnswer(operation, r.http(), w.Result()); errs != "" {
		a.t.Errorf("%s: the answer with status %d is not as the document says:%s\n%s", what, status, errs, w.Body)
	}
	var body answer
	if w.Body.Len() > 0 {
		must(a.t, json.Unmarshal(w.Body.Bytes(), &body))
	}
	return body
}

// checkAnswer returns what is wrong with an answer, or "".
func (d *document) checkAnswer(operation string, r *http.Request, answer *http.Response) string {
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err.Error()
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	var wrong string
	if ok, errs := d.ValidateHttpResponse(r, answer); !ok {
		wrong = lines(errs)
	}
	// The validator is lenient where the document says nothing.
	documented, _ := d.operations[operation].Responses.Codes.Get(strconv.Itoa(answer.StatusCode))
	if documented == nil {
		return wrong
	}
	if hasBody := len(body) > 0; hasBody != (orderedmap.Len(documented.Content) > 0) {
		wrong += fmt.Sprintf("\n\ta body is there: %v, and not so in the document", hasBody)
	}
	known := slices.Clone(ordinary)
	if documented.Headers != nil {
		for name := range documented.Headers.KeysFromOldest() {
			known = append(known, http.CanonicalHeaderKey(name))
		}
	}
	for name := range answer.Header {
		if !slices.Contains(known, name) {
			wrong += "\n\tthe document does not have the field " + name
		}
	}
	return wrong
}

// A store is one in memory that can fail.
type store struct {
	*keyring.MemoryStore
	lookup, get, update, events error // of the methods with these names
}

func (s *store) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	if s.lookup != nil {
		return nil, s.lookup
	}
	return s.MemoryStore.Lookup(ctx, hash)
}

func (s *store) Get(ctx context.Context, id string) (*auth.Record, error) {
	if s.get != nil {
		return nil, s.get
	}
	return s.MemoryStore.Get(ctx, id)
}

func (s *store) Update(ctx context.Context, r, successor *auth.Record) error {
	if s.update != nil {
		return s.update
	}
	return s.MemoryStore.Update(ctx, r, successor)
}

func (s *store) Events(ctx context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
	if s.events != nil {
		return nil, s.events
	}
	return s.MemoryStore.Events(ctx, q)
}
