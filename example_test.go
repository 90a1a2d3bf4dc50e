package auth_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

func list(w http.ResponseWriter, r *http.Request) {
	key, _ := auth.FromContext(r.Context())
	fmt.Fprintln(w, "the documents of", key.Owner)
}

// create creates a key of org_1 with these scopes.
func create(manager *keyring.Manager, scopes ...auth.Scope) (auth.Record, string) {
	record, key, err := manager.Unconfined("example").Create(context.Background(), keyring.Spec{
		Name: "Production Backend", Owner: "org_1", Scopes: scopes})
	if err != nil {
		log.Fatal(err)
	}
	return record, key.Reveal()
}

// get sends a request to h, with a key unless it is "", and prints the answer:
// the body, or the code of the problem.
func get(h http.Handler, path, key string) {
	r := httptest.NewRequest("GET", path, nil)
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body := strings.TrimSpace(w.Body.String())
	var problem auth.Problem
	if json.Unmarshal(w.Body.Bytes(), &problem) == nil && problem.Code != "" {
		body = problem.Code
	}
	fmt.Println(w.Code, body)
}

// An API whose routes require scopes.
func Example() {
	store := new(keyring.MemoryStore)
	manager := keyring.NewManager(store, nil)
	a := auth.New(store, nil)

	mux := http.NewServeMux()
	mux.Handle("GET /api/v1/documents", auth.Require("documents.read")(http.HandlerFunc(list)))
	mux.Handle("GET /api/v1/campaigns", auth.Require("campaigns.read")(http.HandlerFunc(list)))
	app := a.Middleware(mux)

	record, key := create(manager, "documents.*")
	get(app, "/api/v1/documents", key)
	get(app, "/api/v1/campaigns", key)
	get(app, "/api/v1/documents", "")
	if err := manager.Unconfined("example").Revoke(context.Background(), record.ID); err != nil {
		log.Fatal(err)
	}
	get(app, "/api/v1/documents", key)
	// Output:
	// 200 the documents of org_1
	// 403 INSUFFICIENT_SCOPE
	// 401 MISSING_KEY
	// 401 KEY_REVOKED
}

// One Scheme describes the keys of an API, for the side that creates them and
// for the side that checks them.
func ExampleScheme() {
	scheme := auth.Scheme{
		Prefix: "acme_live_",
		Catalog: auth.Catalog{
			{Scope: "orders:read", Description: "List and retrieve orders"},
			{Scope: "orders:*", Description: "Full access to orders"},
			{Scope: "*", Description: "Full access"},
		},
	}
	store := new(keyring.MemoryStore)
	manager := keyring.NewManager(store, &keyring.Options{Scheme: scheme})
	a := auth.New(store, &auth.Options{Scheme: scheme, Realm: "acme", ProblemBase: "https://acme.example/errors/"})

	mux := http.NewServeMux()
	mux.Handle("GET /api/v1/orders", a.Require("orders:read")(http.HandlerFunc(list)))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "ok") })

	_, key := create(manager, "orders:*")
	fmt.Println(key[:10])
	get(mux, "/api/v1/orders", key)
	get(mux, "/api/v1/orders", "isk_"+key[10:])
	get(mux, "/healthz", "")
	// Output:
	// acme_live_
	// 200 the documents of org_1
	// 401 INVALID_FORMAT
	// 200 ok
}

// A new pepper, while keys created under the old one stay valid.
func ExampleHasher() {
	oldPepper, newPepper := []byte("32 random bytes of last year ..."), []byte("32 random bytes of this year ...")
	store := new(keyring.MemoryStore)
	before := keyring.NewManager(store, &keyring.Options{Scheme: auth.Scheme{Hashers: []auth.Hasher{auth.BLAKE2b(oldPepper)}}})
	_, key := create(before, "documents.read")

	scheme := auth.Scheme{Hashers: []auth.Hasher{
		auth.BLAKE2b(newPepper), // of new keys
		auth.BLAKE2b(oldPepper), // of keys created before
	}}
	a := auth.New(store, &auth.Options{Scheme: scheme})
	get(a.Require("documents.read")(http.HandlerFunc(list)), "/", key)
	// Output:
	// 200 the documents of org_1
}

// Either of two scopes is enough.
func ExampleRequireAny() {
	store := new(keyring.MemoryStore)
	_, key := create(keyring.NewManager(store, nil), "documents.send")
	route := auth.RequireAny("documents.write", "documents.send")(http.HandlerFunc(list))
	get(auth.New(store, nil).Middleware(route), "/", key)
	// Output:
	// 200 the documents of org_1
}

// A page that also answers without a key.
func ExampleAuthenticator_Optional() {
	store := new(keyring.MemoryStore)
	_, key := create(keyring.NewManager(store, nil), "documents.read")
	app := auth.New(store, nil).Optional(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if record, ok := auth.FromContext(r.Context()); ok {
			fmt.Fprint(w, "hello ", record.Owner)
			return
		}
		fmt.Fprint(w, "hello")
	}))
	get(app, "/", "")
	get(app, "/", key)
	get(app, "/", "isk_wrong")
	// Output:
	// 200 hello
	// 200 hello org_1
	// 401 INVALID_KEY
}

// A route that takes a session of the host or a key.
func ExampleAuthenticator_Vouch() {
	store := new(keyring.MemoryStore)
	a := auth.New(store, nil)
	route := a.Require("documents.read")(http.HandlerFunc(list))

	// The host's own handler for sessions goes outside.
	sessions := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cookie, err := r.Cookie("session"); err == nil && cookie.Value == "of a user of org_2" {
			r = r.WithContext(a.Vouch(r.Context(), auth.Record{
				ID: "user_7", Owner: "org_2", Scopes: auth.Scopes{"documents.*"}}))
		}
		route.ServeHTTP(w, r)
	})

	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: "session", Value: "of a user of org_2"})
	w := httptest.NewRecorder()
	sessions.ServeHTTP(w, r)
	fmt.Print(w.Code, " ", w.Body)
	get(sessions, "/", "")
	// Output:
	// 200 the documents of org_2
	// 401 MISSING_KEY
}

// A key outside HTTP.
func ExampleAuthenticator_Verify() {
	store := new(keyring.MemoryStore)
	_, key := create(keyring.NewManager(store, nil), "documents.read")
	a := auth.New(store, nil)

	ctx := context.Background()
	record, err := a.Verify(ctx, auth.Bearer("Bearer "+key))
	if err != nil {
		log.Fatal(err)
	}
	ctx = a.Vouch(ctx, record) // for Authorize, FromContext and Recheck
	fmt.Println(auth.Authorize(ctx, "documents.read"))
	fmt.Println(auth.Authorize(ctx, "documents.delete"))
	// Output:
	// <nil>
	// auth: the API key lacks a required scope: documents.delete
}

// A scope that is known only when the request comes.
func ExampleAuthorize() {
	store := new(keyring.MemoryStore)
	_, key := create(keyring.NewManager(store, nil), "documents.*")
	app := auth.New(store, nil).Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scope, err := auth.ParseScope(r.FormValue("collection") + ".read")
		if err == nil {
			err = auth.Authorize(r.Context(), scope)
		}
		if err != nil {
			auth.WriteProblem(w, r, err)
			return
		}
		fmt.Fprint(w, "the collection")
	}))
	get(app, "/?collection=documents", key)
	get(app, "/?collection=campaigns", key)
	// Output:
	// 200 the collection
	// 403 INSUFFICIENT_SCOPE
}

// An error format of one's own for a part of the API.
func ExampleOptions_errorHandler() {
	store := new(keyring.MemoryStore)
	a := auth.New(store, &auth.Options{
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) (answered bool) {
			if !strings.HasPrefix(r.URL.Path, "/api/v2/") {
				return false
			}
			if challenge := auth.Challenge(err); challenge != "" {
				w.Header().Add("WWW-Authenticate", challenge) // a 401 must have one
			}
			problem := auth.ProblemFor(err)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(problem.Status)
			json.NewEncoder(w).Encode(map[string]any{
				"error": map[string]string{"code": problem.Code, "message": problem.Detail},
			})
			return true
		},
	})
	app := a.Middleware(http.HandlerFunc(list))
	get(app, "/api/v1/documents", "")
	get(app, "/api/v2/documents", "")
	// Output:
	// 401 MISSING_KEY
	// 401 {"error":{"code":"MISSING_KEY","message":"Invalid or missing API key"}}
}

// Metrics and logs of all decisions.
func ExampleOptions_onDecision() {
	store := new(keyring.MemoryStore)
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	var decisions expvar.Map // or a counter of your metrics library, with these labels
	a := auth.New(store, &auth.Options{
		OnDecision: func(ctx context.Context, d auth.Decision) {
			outcome := d.Code
			if d.Err == nil {
				outcome = "OK"
			}
			decisions.Add(string(d.Step)+" "+outcome, 1)
			logger.InfoContext(ctx, "auth", "decision", d)
		},
	})
	_, key := create(keyring.NewManager(store, nil), "documents.read")
	app := a.Middleware(auth.Require("documents.delete")(http.HandlerFunc(list)))
	get(app, "/", key)
	get(app, "/", "")
	fmt.Println(decisions.String())
	// Output:
	// 403 INSUFFICIENT_SCOPE
	// 401 MISSING_KEY
	// {"authenticate MISSING_KEY": 1, "authenticate OK": 1, "authorize INSUFFICIENT_SCOPE": 1}
}

// The last use of each key, with the other logs.
func ExampleDecision() {
	store := new(keyring.MemoryStore)
	lastUsed := keyring.NewLastUsedRecorder(store, nil)
	defer lastUsed.Close()
	a := auth.New(store, &auth.Options{
		OnDecision: func(ctx context.Context, d auth.Decision) {
			slog.InfoContext(ctx, "auth", "decision", d)
			lastUsed.OnDecision(ctx, d)
		},
	})
	http.Handle("GET /api/v1/documents", a.Require("documents.read")(http.HandlerFunc(list)))
}

func limited(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", "60")
	auth.WriteProblem(w, r, &auth.Problem{
		Type:   "https://acme.example/errors/plan-limit",
		Title:  "Plan Limit Reached",
		Status: http.StatusPaymentRequired,
		Detail: "The plan of this account permits 10 documents",
		Code:   "PLAN_LIMIT",
	})
}

// An Authenticator that also records the last use of each key.
func ExampleNew() {
	store := new(keyring.MemoryStore)
	lastUsed := keyring.NewLastUsedRecorder(store, nil)
	defer lastUsed.Close()
	a := auth.New(store, &auth.Options{OnDecision: lastUsed.OnDecision})
	_, key := create(keyring.NewManager(store, nil), "documents.read")
	get(a.Require("documents.read")(http.HandlerFunc(list)), "/", key)
	// Output:
	// 200 the documents of org_1
}

// A problem of the host in the same format.
func ExampleProblem() {
	get(http.HandlerFunc(limited), "/", "")
	// Output:
	// 402 PLAN_LIMIT
}

// A stream of server-sent events that ends when its key is revoked.
func ExampleWithRecheck() {
	store := new(keyring.MemoryStore)
	manager := keyring.NewManager(store, nil)
	record, key := create(manager, "documents.read")
	a := auth.New(store, nil)
	server := httptest.NewServer(a.Require("documents.read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := auth.WithRecheck(r.Context(), 10*time.Millisecond)
		defer cancel()
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: hello\n\n")
		http.NewResponseController(w).Flush()
		<-ctx.Done()
		if errors.Is(context.Cause(ctx), auth.ErrKeyRevoked) {
			fmt.Fprint(w, "event: end\ndata: the key has been revoked\n\n")
		}
	})))
	defer server.Close()

	r, err := http.NewRequest("GET", server.URL, nil)
	if err != nil {
		log.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		fmt.Println(lines.Text())
		if lines.Text() == "data: hello" {
			if err := manager.Unconfined("example").Revoke(context.Background(), record.ID); err != nil {
				log.Fatal(err)
			}
		}
	}
	// Output:
	// data: hello
	//
	// event: end
	// data: the key has been revoked
}
