package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/insigner/auth"
)

// The handler of all these examples.
func list(w http.ResponseWriter, r *http.Request) {
	key, _ := auth.FromContext(r.Context())
	fmt.Fprintf(w, "the documents of %s", key.Owner)
}

// ask sends h a request with a key, and returns the status with the body, or with the code of the problem.
func ask(h http.Handler, method, path, key string) string {
	r := httptest.NewRequest(method, path, nil)
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var problem auth.Problem
	if json.Unmarshal(w.Body.Bytes(), &problem) == nil {
		return fmt.Sprint(w.Code, " ", problem.Code)
	}
	return strings.TrimSpace(fmt.Sprint(w.Code, " ", w.Body))
}

// create makes a key that holds these scopes.
func create(keyring *auth.Keyring, scopes ...auth.Scope) (auth.Record, string) {
	record, key, err := keyring.Create(context.Background(), auth.Grant{Name: "Example", Owner: "org_1", Scopes: scopes})
	if err != nil {
		log.Fatal(err)
	}
	return record, key.Reveal()
}

func Example() {
	store := new(auth.MemoryStore)
	keyring := auth.NewKeyring(store, nil)
	_, key, err := keyring.Create(context.Background(), auth.Grant{
		Name:   "Production Backend",
		Owner:  "org_1",
		Scopes: auth.Scopes{"documents.read"},
	})
	if err != nil {
		log.Fatal(err)
	}

	mux := http.NewServeMux()
	mux.Handle("GET /api/v1/documents", auth.Require("documents.read")(http.HandlerFunc(list)))
	mux.Handle("DELETE /api/v1/documents/{id}", auth.Require("documents.delete")(http.HandlerFunc(list)))
	app := auth.New(store, nil).Middleware(mux)

	fmt.Println(ask(app, "GET", "/api/v1/documents", key.Reveal()))
	fmt.Println(ask(app, "DELETE", "/api/v1/documents/1", key.Reveal()))
	fmt.Println(ask(app, "GET", "/api/v1/documents", ""))
	// Output:
	// 200 the documents of org_1
	// 403 INSUFFICIENT_SCOPE
	// 401 MISSING_KEY
}

// A route may need several scopes, all of them.
func ExampleRequire() {
	store := new(auth.MemoryStore)
	keyring := auth.NewKeyring(store, nil)
	a := auth.New(store, nil)

	mux := http.NewServeMux()
	mux.Handle("POST /api/v1/documents", auth.Require("documents.create", "documents.send")(http.HandlerFunc(list)))
	app := a.Middleware(mux)

	_, one := create(keyring, "documents.create")
	_, both := create(keyring, "documents.create", "documents.send")
	_, wildcard := create(keyring, "documents.*")
	fmt.Println(ask(app, "POST", "/api/v1/documents", one))
	fmt.Println(ask(app, "POST", "/api/v1/documents", both))
	fmt.Println(ask(app, "POST", "/api/v1/documents", wildcard))
	// Output:
	// 403 INSUFFICIENT_SCOPE
	// 200 the documents of org_1
	// 200 the documents of org_1
}

func ExampleRequireAny() {
	store := new(auth.MemoryStore)
	a := auth.New(store, nil)

	mux := http.NewServeMux()
	mux.Handle("GET /api/v1/documents/{id}", auth.RequireAny("documents.read", "documents.write")(http.HandlerFunc(list)))
	app := a.Middleware(mux)

	_, key := create(auth.NewKeyring(store, nil), "documents.write")
	fmt.Println(ask(app, "GET", "/api/v1/documents/1", key))
	// Output: 200 the documents of org_1
}

// An Authenticator's own Require needs no Middleware: for an API of which only some routes take keys.
func ExampleAuthenticator_Require() {
	store := new(auth.MemoryStore)
	a := auth.New(store, nil)

	mux := http.NewServeMux()
	mux.Handle("GET /api/v1/documents", a.Require("documents.read")(http.HandlerFunc(list)))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "ok") })

	_, key := create(auth.NewKeyring(store, nil), "documents.read")
	fmt.Println(ask(mux, "GET", "/api/v1/documents", key))
	fmt.Println(ask(mux, "GET", "/healthz", ""))
	// Output:
	// 200 the documents of org_1
	// 200 ok
}

// Authenticate decides and writes nothing: for a handler that treats strangers and keys differently.
func ExampleAuthenticator_Authenticate() {
	store := new(auth.MemoryStore)
	a := auth.New(store, nil)

	price := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, err := a.Authenticate(r)
		switch {
		case errors.Is(err, auth.ErrMissingKey):
			fmt.Fprint(w, "list price")
		case err != nil:
			auth.WriteProblem(w, r, err)
		default:
			fmt.Fprintf(w, "the price for %s", key.Owner)
		}
	})

	_, key := create(auth.NewKeyring(store, nil))
	fmt.Println(ask(price, "GET", "/price", ""))
	fmt.Println(ask(price, "GET", "/price", key))
	fmt.Println(ask(price, "GET", "/price", "isk_wrong"))
	// Output:
	// 200 list price
	// 200 the price for org_1
	// 401 INVALID_KEY
}

func ExampleKeyring_Create() {
	ctx := context.Background()
	keyring := auth.NewKeyring(new(auth.MemoryStore), &auth.KeyringOptions{Catalog: auth.DefaultCatalog})

	record, key, err := keyring.Create(ctx, auth.Grant{
		Name:      "Production Backend",
		Owner:     "org_1",
		CreatedBy: "ada@example.com",
		Scopes:    auth.Scopes{"documents.*", "templates.read"},
		ExpiresAt: time.Now().AddDate(0, 3, 0),
		Metadata:  map[string]string{"environment": "production"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(record.Name, record.Scopes)
	fmt.Println(key.Hint() == record.Hint, len(key.Reveal())) // Reveal it once, to whoever asked for it

	// A key that makes keys hands on no more than it holds.
	_, _, err = keyring.Create(ctx, auth.Grant{Name: "Helper", Scopes: auth.Scopes{"org.read"}, Ceiling: record.Scopes})
	fmt.Println(err)
	// A Catalog finds typing errors.
	_, _, err = keyring.Create(ctx, auth.Grant{Name: "Helper", Scopes: auth.Scopes{"document.read"}})
	fmt.Println(errors.Is(err, auth.ErrInvalidArgument))
	// Output:
	// Production Backend [documents.* templates.read]
	// true 48
	// auth: create key: the API key lacks a required scope: org.read is above the ceiling
	// true
}

func ExampleKeyring_Rotate() {
	ctx := context.Background()
	store := new(auth.MemoryStore)
	keyring := auth.NewKeyring(store, nil)
	app := auth.New(store, nil).Require("documents.read")(http.HandlerFunc(list))
	record, old := create(keyring, "documents.read")

	// Both keys work for a day: time to bring the new one to where the old one is used.
	successor, key, err := keyring.Rotate(ctx, record.ID, 24*time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(successor.Name, successor.Scopes, successor.Replaces == record.ID)
	fmt.Println(ask(app, "GET", "/", old))
	fmt.Println(ask(app, "GET", "/", key.Reveal()))

	_, _, err = keyring.Rotate(ctx, record.ID, 0)
	fmt.Println(errors.Is(err, auth.ErrSuperseded)) // a key rotates once
	// Output:
	// Example [documents.read] true
	// 200 the documents of org_1
	// 200 the documents of org_1
	// true
}

func ExampleKeyring_Revoke() {
	store := new(auth.MemoryStore)
	keyring := auth.NewKeyring(store, nil)
	app := auth.New(store, nil).Require("documents.read")(http.HandlerFunc(list))
	record, key := create(keyring, "documents.read")

	fmt.Println(ask(app, "GET", "/", key))
	if err := keyring.Revoke(context.Background(), record.ID); err != nil {
		log.Fatal(err)
	}
	fmt.Println(ask(app, "GET", "/", key))
	// Output:
	// 200 the documents of org_1
	// 401 KEY_REVOKED
}

// The keys of an owner that are about to expire.
func ExampleKeyring_List() {
	ctx := context.Background()
	keyring := auth.NewKeyring(new(auth.MemoryStore), nil)
	for name, days := range map[string]int{"Staging": 3, "Production": 300} {
		expires := time.Now().AddDate(0, 0, days)
		if _, _, err := keyring.Create(ctx, auth.Grant{Name: name, Owner: "org_1", ExpiresAt: expires}); err != nil {
			log.Fatal(err)
		}
	}

	soon := auth.Filter{Owner: "org_1", State: auth.StateActive, ExpiresBefore: time.Now().AddDate(0, 0, 7)}
	for record, err := range keyring.List(ctx, soon) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(record.Name)
	}
	// Output: Staging
}

// An API with a prefix of its own. Authenticator and Keyring must agree on it.
func ExampleKeyFormat() {
	format := auth.KeyFormat{Prefix: "acme_live_"}
	store := new(auth.MemoryStore)
	keyring := auth.NewKeyring(store, &auth.KeyringOptions{Format: format})
	app := auth.New(store, &auth.Options{Format: format}).Require("documents.read")(http.HandlerFunc(list))

	_, key := create(keyring, "documents.read")
	fmt.Println(key[:len("acme_live_")], len(key))
	fmt.Println(ask(app, "GET", "/", key))
	fmt.Println(ask(app, "GET", "/", auth.NewKey().Reveal())) // "isk_…"
	// Output:
	// acme_live_ 54
	// 200 the documents of org_1
	// 401 INVALID_FORMAT
}

// A pepper is changed with two Hashers: new keys are made with the new one, old keys go on until they are rotated.
func ExampleHasher() {
	oldPepper, newPepper := []byte("32 random bytes of crypto/rand.."), []byte("another 32 bytes of crypto/rand.")
	store := new(auth.MemoryStore)
	_, before := create(auth.NewKeyring(store, &auth.KeyringOptions{Hasher: auth.BLAKE2b(oldPepper)}), "documents.read")

	keyring := auth.NewKeyring(store, &auth.KeyringOptions{Hasher: auth.BLAKE2b(newPepper)})
	a := auth.New(store, &auth.Options{
		Hashers: []auth.Hasher{auth.BLAKE2b(newPepper), auth.BLAKE2b(oldPepper)}, // tried in this order
	})

	app := a.Require("documents.read")(http.HandlerFunc(list))
	_, after := create(keyring, "documents.read")
	fmt.Println(ask(app, "GET", "/", before))
	fmt.Println(ask(app, "GET", "/", after))
	// Output:
	// 200 the documents of org_1
	// 200 the documents of org_1
}

// An API with an error format of its own.
func ExampleOptions_errorHandler() {
	a := auth.New(new(auth.MemoryStore), &auth.Options{
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			problem := auth.ProblemFor(err)
			if challenge := auth.Challenge(err); challenge != "" {
				w.Header().Set("WWW-Authenticate", challenge) // a 401 must have one
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(problem.Status)
			json.NewEncoder(w).Encode(map[string]any{
				"error": map[string]string{"code": problem.Code, "message": problem.Detail},
			})
		},
	})

	w := httptest.NewRecorder()
	a.Require("documents.read")(http.HandlerFunc(list)).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	fmt.Println(w.Code, w.Header().Get("WWW-Authenticate"))
	fmt.Println(w.Body)
	// Output:
	// 401 Bearer realm="api"
	// {"error":{"code":"MISSING_KEY","message":"Invalid or missing API key"}}
}

// A Decision is a slog.LogValuer; for metrics it has fields and methods.
func ExampleOptions_onDecision() {
	// In an example the times would change with every run.
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindTime || a.Value.Kind() == slog.KindDuration {
			return slog.Attr{}
		}
		return a
	}}))
	store := new(auth.MemoryStore)
	uses := auth.NewUseRecorder(store, nil)
	defer uses.Close()

	var decisions expvar.Map // or a counter of your metrics library, with the outcome as its label
	a := auth.New(store, &auth.Options{
		OnDecision: func(r *http.Request, d auth.Decision) {
			switch {
			case d.Err != nil:
				decisions.Add(auth.ProblemFor(d.Err).Code, 1)
			case d.Required() != nil: // a Middleware's yes is not the last word, a Require's is
				decisions.Add("OK", 1)
			}
			logger.InfoContext(r.Context(), "auth", "route", r.Pattern, "decision", d)
			uses.OnDecision(r, d)
		},
	})

	mux := http.NewServeMux()
	mux.Handle("GET /api/v1/documents", a.Require("documents.read")(http.HandlerFunc(list)))
	ask(mux, "GET", "/api/v1/documents", auth.NewKey().Reveal())
	fmt.Println(&decisions)
	// Output:
	// level=INFO msg=auth route="GET /api/v1/documents" decision.outcome=INVALID_KEY decision.required=documents.read
	// {"INVALID_KEY": 1}
}

func ExampleUseRecorder() {
	store := new(auth.MemoryStore)
	keyring := auth.NewKeyring(store, nil)
	uses := auth.NewUseRecorder(store, nil)
	a := auth.New(store, &auth.Options{OnDecision: uses.OnDecision})

	record, key := create(keyring, "documents.read")
	ask(a.Require("documents.read")(http.HandlerFunc(list)), "GET", "/", key)
	if err := uses.Close(); err != nil { // after the server; it writes what waits
		log.Fatal(err)
	}
	record, err := keyring.Get(context.Background(), record.ID)
	fmt.Println(record.LastUsedAt.IsZero(), err)
	// Output: false <nil>
}

// A handler's test needs no key.
func ExampleNewContext() {
	r := httptest.NewRequest("GET", "/api/v1/documents", nil)
	r = r.WithContext(auth.NewContext(r.Context(), auth.Record{Owner: "org_7", Scopes: auth.Scopes{"documents.read"}}))

	w := httptest.NewRecorder()
	auth.Require("documents.read")(http.HandlerFunc(list)).ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)
	// Output: 200 the documents of org_7
}

// chiRouter has the methods of chi's Router that Example_chi calls, since this module does not depend on chi.
type chiRouter struct {
	mux   *http.ServeMux
	outer []func(http.Handler) http.Handler
}

func (c *chiRouter) Use(middlewares ...func(http.Handler) http.Handler) {
	c.outer = append(c.outer, middlewares...)
}

func (c *chiRouter) With(middlewares ...func(http.Handler) http.Handler) *chiRouter {
	return &chiRouter{c.mux, append(c.outer[:len(c.outer):len(c.outer)], middlewares...)}
}

func (c *chiRouter) Get(pattern string, h http.HandlerFunc) {
	handler := http.Handler(h)
	for i := len(c.outer) - 1; i >= 0; i-- {
		handler = c.outer[i](handler)
	}
	c.mux.Handle("GET "+pattern, handler)
}

// Middleware is func(http.Handler) http.Handler: what chi's Use and With take, and alice, and plain code.
func Example_chi() {
	store := new(auth.MemoryStore)
	a := auth.New(store, nil)
	r := &chiRouter{mux: http.NewServeMux()} // chi.NewRouter()

	r.Use(a.Middleware)
	r.With(auth.Require("documents.read")).Get("/api/v1/documents", list)

	_, key := create(auth.NewKeyring(store, nil), "documents.read")
	fmt.Println(ask(r.mux, "GET", "/api/v1/documents", key))
	fmt.Println(ask(r.mux, "GET", "/api/v1/documents", ""))
	// Output:
	// 200 the documents of org_1
	// 401 MISSING_KEY
}

// What answers without a key, and what belongs on refused requests too, goes outside the Middleware.
func Example_order() {
	cors := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", "https://app.example.com")
			if r.Method == http.MethodOptions { // a preflight request; browsers send no key with it
				w.Header().Set("Access-Control-Allow-Headers", "Authorization")
				w.WriteHeader(http.StatusNoContent)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	requestID := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Request-Id", "req_1")
			next.ServeHTTP(w, r)
		})
	}
	api := http.NewServeMux()
	api.Handle("GET /api/v1/documents", auth.Require("documents.read")(http.HandlerFunc(list)))
	a := auth.New(new(auth.MemoryStore), nil)

	root := http.NewServeMux()
	root.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "ok") })
	root.Handle("/api/", a.Middleware(api))
	app := requestID(cors(root))

	fmt.Println(ask(app, "OPTIONS", "/api/v1/documents", ""))
	fmt.Println(ask(app, "GET", "/healthz", ""))
	fmt.Println(ask(app, "GET", "/api/v1/documents", ""))
	// Output:
	// 204
	// 200 ok
	// 401 MISSING_KEY
}
