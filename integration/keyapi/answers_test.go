package keyapi_test

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
)

// bodies are what the operations with a body accept.
var bodies = map[string]string{
	"createKey":  `{"name":"new","scopes":["a.b"],"expiresAt":null,"metadata":{"team":"blue"}}`,
	"updateKey":  `{"name":"renamed","expiresAt":null,"metadata":{"team":null}}`,
	"rotateKey":  `{"graceSeconds":60}`,
	"rotateSelf": `{"graceSeconds":60}`,
	"revokeKey":  `{"andCreated":true}`,
}

// unprovoked are the answers that no request provokes.
var unprovoked = []string{
	"getOpenAPI 500", // it reads nothing that could be broken
}

// Each operation is answered with each status that the document has for it.
func TestAnswers(t *testing.T) {
	doc := newDocument(t, closed(t, served(t)))
	for id, op := range doc.operations {
		for _, status := range op.statuses(t) {
			name := fmt.Sprintf("%s %d", id, status)
			if slices.Contains(unprovoked, name) {
				continue
			}
			t.Run(name, func(t *testing.T) {
				a := newAPI(t, doc)
				r, key := a.request(id)
				a.provoke(id, status, &r, key)
				a.do(id, r, status)
			})
		}
	}
}

// provoke changes the api, and a request that it accepts, so that it answers
// with a status. The request is about the key with that ID.
func (a *api) provoke(operation string, status int, r *request, key string) {
	a.t.Helper()
	self := strings.HasSuffix(operation, "Self")
	switch status {
	case 200:
		if operation == "createKey" { // a repeat
			r.fields = map[string]string{"Idempotency-Key": "once"}
			a.do(operation, *r, 201)
		}
	case 201, 204:
	case 304:
		r.fields = map[string]string{"If-None-Match": `"1"`}
	case 400:
		r.path += "?unknown=1"
		r.undocumented = true
	case 401:
		r.secret = ""
		r.undocumented = true
	case 403:
		if self {
			_, r.secret = a.create("")
		} else {
			_, r.secret = a.create(owner, "a.b")
		}
	case 404:
		if self { // the host vouches for somebody without a key
			a.Handler = keyapi.New(keyring.NewManager(a.store, nil), nil)
			r.ctx = authtest.NewContext(a.t.Context(), auth.Record{ID: "ada", Owner: owner, Scopes: auth.Scopes{"*"}})
		}
		r.path = strings.Replace(r.path, key, "unknown", 1)
	case 408:
		r.broken = iotest.ErrReader(os.ErrDeadlineExceeded)
	case 409:
		a.provokeConflict(operation, r, key)
	case 412:
		r.fields = map[string]string{"If-Match": `"99"`}
	case 413:
		r.body = `{"name":"` + strings.Repeat("n", 64<<10) + `"}`
		r.undocumented = !strings.Contains(bodies[operation], `"name"`) // else a schema cannot count bytes
	case 415:
		r.body = cmp.Or(r.body, "{}")
		r.fields = map[string]string{"Content-Type": "text/plain"}
		r.undocumented = true
	case 422:
		r.body = `{"name":" "}`
		if strings.HasPrefix(operation, "rotate") {
			r.body = `{"graceSeconds":2592001}`
			r.undocumented = true
		}
	case 500:
		a.store.get = &keyring.RecordError{ID: key, Err: errors.New("broken")}
	case 501:
		a.store.events = errors.ErrUnsupported
	case 503:
		a.store.get = errors.New("down")
		if operation == "getOpenAPI" {
			a.store.lookup = a.store.get
		}
	default:
		a.t.Fatalf("this test cannot provoke %d", status)
	}
}

func (a *api) provokeConflict(operation string, r *request, key string) {
	a.t.Helper()
	switch operation {
	case "createKey":
		for range maxKeys - 2 {
			a.create(owner)
		}
	case "updateKey", "disableKey", "enableKey":
		must(a.t, a.admin.Revoke(a.t.Context(), key))
	case "rotateKey", "rotateSelf":
		a.do(operation, *r, 201)
	default:
		a.store.update = keyring.ErrConflict
	}
}
