package auth_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
)

// An answer is what a client gets, byte for byte but for the Date, and what it costs the store.
type answer struct {
	code  string // of the error table; OK
	calls int64  // to the store
	text  string // the whole response; empty: net/http refuses the request itself, with 400
}

// problemText is a whole response. The lengths are written out, so that a changed body shows twice.
func problemText(status, length, challenge, extra, body string) string {
	if challenge != "" {
		challenge = "Www-Authenticate: " + challenge + "\r\n"
	}
	return "HTTP/1.1 " + status + "\r\nCache-Control: no-store\r\nContent-Length: " + length +
		"\r\nContent-Type: application/problem+json\r\n" + extra + challenge +
		"X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n" + body + "\n"
}

func unauthorizedText(length, challenge, detail, code string) string {
	return problemText("401 Unauthorized", length, challenge, "", `{"type":"https://docs.insigner.com/errors/unauthorized",`+
		`"title":"Unauthorized","status":401,"detail":"`+detail+`","code":"`+code+`"}`)
}

const invalidToken = `Bearer realm="api", error="invalid_token"`

var (
	ok = answer{"OK", 1, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\nhello"}

	missing   = answer{"MISSING_KEY", 0, unauthorizedText("152", `Bearer realm="api"`, "Invalid or missing API key", "MISSING_KEY")}
	format    = answer{"INVALID_FORMAT", 0, unauthorizedText("155", invalidToken, "Invalid or missing API key", "INVALID_FORMAT")}
	malformed = answer{"INVALID_KEY", 0, unauthorizedText("152", invalidToken, "Invalid or missing API key", "INVALID_KEY")}
	unknown   = answer{"INVALID_KEY", 1, malformed.text}
	revoked   = answer{"KEY_REVOKED", 1, unauthorizedText("150", invalidToken, "API key has been revoked", "KEY_REVOKED")}
	expired   = answer{"KEY_EXPIRED", 1, unauthorizedText("145", invalidToken, "API key has expired", "KEY_EXPIRED")}
	forbidden = answer{"INSUFFICIENT_SCOPE", 1, problemText("403 Forbidden", "211",
		`Bearer realm="api", error="insufficient_scope", scope="documents.read"`, "",
		`{"type":"https://docs.insigner.com/errors/forbidden","title":"Forbidden","status":403,"detail":"API key lacks the `+
			`required scope: documents.read","code":"INSUFFICIENT_SCOPE","requiredScopes":["documents.read"]}`)}
	unavailable = answer{"STORE_UNAVAILABLE", 1, problemText("503 Service Unavailable", "195", "", "Retry-After: 5\r\n",
		`{"type":"https://docs.insigner.com/errors/service-unavailable","title":"Service Unavailable","status":503,`+
			`"detail":"The API key could not be checked; try again later","code":"STORE_UNAVAILABLE"}`)}

	refused = answer{code: "400"}
)

// A wireServer is an API behind an Authenticator that counts all that happens.
type wireServer struct {
	*httptest.Server
	store                       *countingStore
	opened, decisions, answered atomic.Int64
	last                        atomic.Pointer[auth.Decision]
}

// newWireServer serves behind Middleware and Require, with HTTP/2 over TLS if http2.
func newWireServer(t *testing.T, store auth.Store, http2 bool) *wireServer {
	s := &wireServer{store: &countingStore{Store: store}}
	a := auth.New(s.store, &auth.Options{
		Logger: slog.New(slog.DiscardHandler),
		OnDecision: func(r *http.Request, d auth.Decision) {
			if d.Required() == nil { // that of the Middleware
				s.decisions.Add(1)
			}
			s.last.Store(&d)
		},
	})
	api := a.Middleware(auth.Require("documents.read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.opened.Add(1)
		io.WriteString(w, "hello")
	})))
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.answered.Add(1)
		api.ServeHTTP(w, r)
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	if http2 {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

var dateField = regexp.MustCompile(`(?m)^Date: .*\r\n`)

// roundTrip writes a request as it stands and reads until the server closes the connection.
func (s *wireServer) roundTrip(t *testing.T, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return dateField.ReplaceAllString(string(response), "")
}

// check sends a request and tells what is not as want says: the response, look-ups, decisions, whether a route opened.
func (s *wireServer) check(t *testing.T, want answer, request string) {
	t.Helper()
	calls, opened, decisions, answered := s.store.calls.Load(), s.opened.Load(), s.decisions.Load(), s.answered.Load()
	s.last.Store(nil)
	got := s.roundTrip(t, request)
	if want.text == "" {
		if !strings.HasPrefix(got, "HTTP/1.1 400 ") || s.answered.Load() != answered {
			t.Errorf("want 400 from net/http and no handler called, got %d handlers and\n%.300q", s.answered.Load()-answered, got)
		}
		return
	}
	wantText, isOK := want.text, want.code == "OK"
	if strings.HasPrefix(request, "HEAD ") {
		head, _, _ := strings.Cut(wantText, "\r\n\r\n")
		wantText = head + "\r\n\r\n"
	}
	if got != wantText {
		t.Error(differ(got, wantText))
	}
	if n := s.store.calls.Load() - calls; n != want.calls {
		t.Errorf("%d calls to the store, want %d", n, want.calls)
	}
	if n := s.opened.Load() - opened; (n == 1) != isOK {
		t.Errorf("the handler was called %d times, with %s", n, want.code)
	}
	d := s.last.Load()
	if n := s.decisions.Load() - decisions; n != 1 || d == nil {
		t.Errorf("%d decisions, want 1", n)
	} else if code := decisionCode(*d); code != want.code || (d.Lookup != 0) != (want.calls > 0) && code != "OK" && code != "INSUFFICIENT_SCOPE" {
		t.Errorf("the decision was %s after %v, want %s", code, d.Lookup, want.code)
	}
}

// differ tells where got and want part.
func differ(got, want string) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	from := max(0, i-20)
	return fmt.Sprintf("byte %d: got %.60q, want %.60q", i, got[min(from, len(got)):], want[min(from, len(want)):])
}

func decisionCode(d auth.Decision) string {
	if d.Err == nil {
		return "OK"
	}
	return auth.ProblemFor(d.Err).Code
}

// wireRequest puts the Host and "Connection: close" behind the request line.
func wireRequest(request string) string {
	line, rest, _ := strings.Cut(placeholders.Replace(request), "\r\n")
	if !strings.Contains(rest, "\r\n\r\n") {
		rest = strings.TrimLeft(rest+"\r\n", "\r\n") + "\r\n"
	}
	return line + "\r\nHost: api.example\r\nConnection: close\r\n" + rest
}

// authorization returns the field values of a case of wireValues.
func (c wireCase) authorization() []string {
	return strings.Split(placeholders.Replace(c.fields), "\n")
}

func (c wireCase) name() string {
	return strings.ReplaceAll(strconv.QuoteToASCII(c.fields[:min(len(c.fields), 60)]), "/", "|")
}

func TestWireHTTP1(t *testing.T) {
	s := newWireServer(t, newStore(goodRecord()), false)
	if n := len(wireValues); n < 80 {
		t.Fatalf("only %d values", n)
	}
	for _, c := range wireValues {
		t.Run(c.name(), func(t *testing.T) {
			var fields strings.Builder
			for _, v := range c.authorization() {
				fields.WriteString("Authorization: " + v + "\r\n")
			}
			s.check(t, c.want, "GET /api/v1/documents HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n"+fields.String()+"\r\n")
		})
	}
	for _, c := range wireFields {
		t.Run(c.name(), func(t *testing.T) {
			s.check(t, c.want, "GET / HTTP/1.1\r\n"+placeholders.Replace(c.fields)+"\r\nHost: api.example\r\nConnection: close\r\n\r\n")
		})
	}
	for _, c := range wireRequests {
		t.Run(c.name(), func(t *testing.T) { s.check(t, c.want, wireRequest(c.fields)) })
	}
}

// TestWireAnswers has what depends on the record, each with HEAD as well.
func TestWireAnswers(t *testing.T) {
	past := time.Now().Add(-time.Hour)
	change := func(f func(r *auth.Record)) auth.Store {
		r := scopedRecord("documents.read")
		f(&r)
		return newStore(r)
	}
	for _, c := range []struct {
		name  string
		store auth.Store
		want  answer
	}{
		{"good", change(func(r *auth.Record) {}), ok},
		{"revoked", change(func(r *auth.Record) { r.RevokedAt = past }), revoked},
		{"revoked and expired", change(func(r *auth.Record) { r.RevokedAt, r.ExpiresAt = past, past }), revoked},
		{"expired", change(func(r *auth.Record) { r.ExpiresAt = past }), expired},
		{"expired and without scope", change(func(r *auth.Record) { r.ExpiresAt, r.Scopes = past, nil }), expired},
		{"without scope", change(func(r *auth.Record) { r.Scopes = nil }), forbidden},
		{"with another scope", change(func(r *auth.Record) { r.Scopes = auth.Scopes{"documents.write", "templates.read"} }), forbidden},
		{"not there", newStore(), unknown},
		{"out of order", failingStore(errors.New("disk on fire")), unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newWireServer(t, c.store, false)
			for _, method := range []string{"GET", "HEAD", "DELETE"} {
				s.check(t, c.want, wireRequest(method+" / HTTP/1.1\r\nAuthorization: Bearer KEY"))
			}
		})
	}
}

// TestWireHTTP2 sends what a client can send, and expects the same answers as over HTTP/1.1.
func TestWireHTTP2(t *testing.T) {
	s := newWireServer(t, newStore(goodRecord()), true)
	client := s.Client()
	sent := 0
	for _, c := range slices.Concat(wireValues, []wireCase{{"-", missing}}) {
		for _, method := range []string{"GET", "HEAD"} {
			req, _ := http.NewRequest(method, s.URL+"/", nil)
			req.Header["Authorization"] = c.authorization()
			if c.fields == "-" {
				req.Header = http.Header{"X-Api-Key": {goodKey}}
			}
			calls, opened, decisions := s.store.calls.Load(), s.opened.Load(), s.decisions.Load()
			resp, err := client.Do(req)
			if err != nil {
				t.Errorf("%s %s: %v", method, c.name(), err)
				continue
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			sent++
			want, err2 := http.ReadResponse(bufio.NewReader(strings.NewReader(c.want.text)), nil)
			if err != nil || err2 != nil || resp.ProtoMajor != 2 {
				t.Fatal(err, err2, resp.Proto)
			}
			wantBody, _ := io.ReadAll(want.Body)
			if method == "HEAD" {
				wantBody = nil
			}
			resp.Header.Del("Date")
			want.Header.Del("Connection")
			if resp.StatusCode != want.StatusCode || !bytes.Equal(body, wantBody) || !maps.EqualFunc(resp.Header, want.Header, slices.Equal) {
				t.Errorf("%s %s: %d %v %q, want %d %v %q", method, c.name(), resp.StatusCode, resp.Header, body, want.StatusCode, want.Header, wantBody)
			}
			if n := s.store.calls.Load() - calls; n != c.want.calls {
				t.Errorf("%s %s: %d calls to the store, want %d", method, c.name(), n, c.want.calls)
			}
			if n := s.opened.Load() - opened; (n == 1) != (c.want.code == "OK") || s.decisions.Load() != decisions+1 {
				t.Errorf("%s %s: %d times to the handler after %d decisions", method, c.name(), n, s.decisions.Load()-decisions)
			}
		}
	}
	if sent < 2*80 {
		t.Errorf("only %d requests were sent", sent)
	}
}

// TestWireTrailer: nor is a key read from a trailer that an outer handler has waited for.
func TestWireTrailer(t *testing.T) {
	a := auth.New(newStore(goodRecord()), nil)
	arrived := ""
	s := &wireServer{Server: httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		arrived = r.Trailer.Get("Authorization")
		a.Middleware(http.NotFoundHandler()).ServeHTTP(w, r)
	}))}
	defer s.Close()
	got := s.roundTrip(t, wireRequest("POST / HTTP/1.1\r\nTrailer: Authorization\r\nTransfer-Encoding: chunked\r\n\r\n"+
		"1\r\nx\r\n0\r\nAuthorization: Bearer KEY\r\n\r\n"))
	if got != missing.text || arrived == "" {
		t.Errorf("the trailer %q: %s", arrived, differ(got, missing.text))
	}
}

// TestWireKeepAlive: a refusal leaves the connection in order for the next request.
func TestWireKeepAlive(t *testing.T) {
	s := newWireServer(t, newStore(goodRecord()), false)
	got := s.roundTrip(t, placeholders.Replace("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"+
		"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"+
		"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer KEY\r\nConnection: close\r\n\r\n"))
	kept := strings.Replace(missing.text, "Connection: close\r\n", "", 1)
	head, _, _ := strings.Cut(kept, "\r\n\r\n")
	if want := kept + head + "\r\n\r\n" + ok.text; got != want {
		t.Error(differ(got, want))
	}
}

// TestWireOuterHeaders: what an outer handler set for its own answer goes, what it set for every answer stays.
func TestWireOuterHeaders(t *testing.T) {
	a := auth.New(newStore(), nil)
	outer := func(w http.ResponseWriter, r *http.Request) {
		for _, field := range []string{"Content-Length: 3", "Content-Type: text/html", `ETag: "x"`, "Last-Modified: yesterday",
			"Cache-Control: public, max-age=60", "Access-Control-Allow-Origin: *", "Vary: Origin", "X-Request-Id: req_1"} {
			name, value, _ := strings.Cut(field, ": ")
			w.Header().Add(name, value)
		}
		w.Header().Add("Cache-Control", "immutable")
		a.Middleware(http.NotFoundHandler()).ServeHTTP(w, r)
	}
	s := &wireServer{Server: httptest.NewServer(http.HandlerFunc(outer))}
	defer s.Close()
	want := strings.Replace(missing.text, "\r\n", "\r\nAccess-Control-Allow-Origin: *\r\n", 1)
	want = strings.Replace(want, "\r\nWww-", "\r\nVary: Origin\r\nWww-", 1)
	want = strings.Replace(want, "nosniff\r\n", "nosniff\r\nX-Request-Id: req_1\r\n", 1)
	for _, method := range []string{"GET", "HEAD"} {
		if method == "HEAD" {
			want = want[:strings.Index(want, "\r\n\r\n")+4]
		}
		if got := s.roundTrip(t, wireRequest(method+" / HTTP/1.1")); got != want {
			t.Error(method, differ(got, want))
		}
	}
}
