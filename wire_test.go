package auth_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
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

// A wireCase is the Authorization fields of a request, one a line. KEY, SECRET (the key without its prefix), KEY43
// (without its last character), HASH, HINT and BASE64 (of the key) stand for those of a good key.
type wireCase struct {
	fields string
	want   answer
}

var placeholders = strings.NewReplacer("KEY43", goodKey[:47], "KEY", goodKey, "SECRET", goodKey[4:], "HASH", goodHash.String(),
	"HINT", "isk_…U1v2", "BASE64", base64.StdEncoding.EncodeToString([]byte(goodKey+":")))

// values are put behind "Authorization: ".
var wireValues = []wireCase{
	// The scheme.
	{"Bearer KEY", ok},
	{"bearer KEY", ok}, // RFC 9110 section 11.1: case-insensitive
	{"BEARER KEY", ok},
	{"bEaReR KEY", ok},
	{"", missing},
	{" ", missing},
	{"\t", missing},
	{"Bearer", missing},
	{"bearer", missing},
	{"Bearer ", missing},
	{"Bearer \t ", missing},
	{"BearerKEY", missing},
	{"Bearer:KEY", missing},
	{"Bearer: KEY", missing},
	{"Bearer=KEY", missing},
	{"Bearer,KEY", missing},
	{"Bearer, KEY", missing},
	{"Bearer/KEY", missing},
	{"Bearer%20KEY", missing},
	{"Bearer+KEY", missing},
	{"%42earer KEY", missing},
	{"KEY", missing},
	{"isk_", missing},
	{"SECRET", missing},
	{"Basic BASE64", missing},
	{"Basic KEY", missing},
	{"Basic x, Bearer KEY", missing},
	{"Token KEY", missing},
	{"ApiKey KEY", missing},
	{"OAuth KEY", missing},
	{"DPoP KEY", missing},
	{`Digest username="KEY"`, missing},
	{"Bearers KEY", missing},
	{"Beare KEY", missing},
	{"XBearer KEY", missing},
	{"Be arer KEY", missing},
	{"Be-arer KEY", missing},
	{`"Bearer KEY"`, missing},
	{`"Bearer" KEY`, missing},
	{"'Bearer KEY'", missing},
	{"Authorization: Bearer KEY", missing},
	{",Bearer KEY", missing},

	// White space.
	{"  Bearer KEY", ok},
	{"\tBearer KEY", ok},
	{" \t Bearer KEY", ok},
	{"Bearer KEY ", ok},
	{"Bearer KEY\t \t", ok},
	{"Bearer  KEY", ok}, // RFC 9110 section 11.4: 1*SP
	{"Bearer          KEY", ok},
	{"Bearer\tKEY", missing},
	{"Bearer\t KEY", missing},
	{"Bearer \tKEY", format},
	{"Bearer  \t KEY", format},
	{"Bearer\u00a0KEY", missing}, // no-break space
	{"Bearer\xa0KEY", missing},   // the same in Latin-1
	{"Bearer\u2003KEY", missing}, // em space
	{"Bearer\u3000KEY", missing}, // ideographic space
	{"Bearer\u2028KEY", missing}, // line separator
	{"Bearer\u0085KEY", missing}, // next line
	{"\u00a0Bearer KEY", missing},
	{"\ufeffBearer KEY", missing}, // byte order mark
	{"\u200bBearer KEY", missing}, // zero width space
	{"Bea\u200brer KEY", missing},
	{"Bearer \u00a0KEY", format},
	{"Bearer \u200bKEY", format},
	{"Bearer \ufeffKEY", format},
	{"Bearer KEY\u00a0", malformed},
	{"Bearer KEY\u200b", malformed},
	{"Bearer KEY KEY", malformed},
	{"Bearer KEY x", malformed},
	{"Bearer KEY\tx", malformed},
	{"Bearer isk_ SECRET", malformed},

	// Letters that look alike, or that some folding takes for the same.
	{"\u0412earer KEY", missing}, // Cyrillic Ve
	{"B\u0435arer KEY", missing}, // Cyrillic ie
	{"Be\u0430rer KEY", missing}, // Cyrillic a
	{"\uff22earer KEY", missing}, // fullwidth B
	{"\u1d2eearer KEY", missing}, // modifier B
	{"\xc2earer KEY", missing},   // B with the eighth bit
	{"Bearer\u0301 KEY", missing},
	{"Bearer \u0456sk_SECRET", format}, // Cyrillic i
	{"Bearer \u0131sk_SECRET", format}, // dotless i
	{"Bearer \u0130sk_SECRET", format}, // I with a dot
	{"Bearer i\u017fk_SECRET", format}, // long s, folds to s
	{"Bearer is\u212a_SECRET", format}, // Kelvin sign, folds to k
	{"Bearer isk\uff3fSECRET", format}, // fullwidth low line
	{"Bearer \uff49\uff53\uff4b\uff3fSECRET", format},
	{"Bearer isk_\u0410" + goodKey[6:], malformed},     // Cyrillic A: two bytes for two characters, so the length is right
	{"Bearer isk_\uff21" + goodKey[7:], malformed},     // fullwidth A
	{"Bearer isk_\u212a" + goodKey[7:], malformed},     // Kelvin sign
	{"Bearer isk_A\u0301" + goodKey[7:], malformed},    // combining acute
	{"Bearer KEY\u0301", malformed},                    // the same at the end
	{"Bearer " + goodKey[:46] + "\u0661", malformed},   // Arabic digit
	{"Bearer " + goodKey[:47] + "\xff", malformed},     // no UTF-8
	{"Bearer " + goodKey[:46] + "\xc0\x80", malformed}, // overlong NUL

	// The prefix.
	{"Bearer x", format},
	{"Bearer *", format},
	{"Bearer null", format},
	{"Bearer ISK_SECRET", format},
	{"Bearer Isk_SECRET", format},
	{"Bearer isK_SECRET", format},
	{"Bearer isk-SECRET", format},
	{"Bearer iskSECRET", format},
	{"Bearer isk", format},
	{"Bearer sk_SECRET", format},
	{"Bearer _isk_SECRET", format},
	{"Bearer acme_live_SECRET", format},
	{"Bearer SECRET", format},
	{"Bearer Bearer KEY", format},
	{`Bearer "KEY"`, format},
	{"Bearer 'KEY'", format},
	{"Bearer <KEY>", format},
	{"Bearer =KEY", format},
	{"Bearer ,KEY", format},
	{"Bearer token=KEY", format},
	{`Bearer key="KEY"`, format},
	{"Bearer %69sk_SECRET", format},
	{"Bearer &#105;sk_SECRET", format},
	{`Bearer \u0069sk_SECRET`, format},
	{"Bearer =?utf-8?q?KEY?=", format}, // RFC 2047
	{"Bearer BASE64", format},
	{"Bearer eyJhbGciOiJub25lIn0.e30.", format},
	{"Bearer HASH", format},
	{"Bearer " + strings.Repeat("x", 200_000), format},

	// What follows it.
	{"Bearer isk_", malformed},
	{"Bearer isk_YOUR_API_KEY", malformed},
	{"Bearer KEY43", malformed},
	{"Bearer KEYx", malformed},
	{"Bearer KEY=", malformed},
	{"Bearer KEY==", malformed},
	{"Bearer KEY43=", malformed},
	{"Bearer KEY43+", malformed}, // base64, not base64url
	{"Bearer KEY43/", malformed},
	{"Bearer KEY43.", malformed},
	{"Bearer KEY43~", malformed},
	{"Bearer KEY,", malformed},
	{"Bearer KEY, ", malformed},
	{"Bearer KEY,KEY", malformed},
	{"Bearer KEY, Bearer KEY", malformed},
	{"Bearer KEY, Basic x", malformed},
	{"Bearer KEY;", malformed},
	{`Bearer KEY"`, malformed},
	{"Bearer KEY%00", malformed},
	{"Bearer KEY%20", malformed},
	{"Bearer KEY#", malformed},
	{"Bearer isk_%41" + goodKey[5:], malformed},
	{"Bearer isk_isk_SECRET", malformed},
	{"Bearer KEYKEY", malformed},
	{"Bearer isk_HASH", malformed},
	{"Bearer HINT", malformed},
	{"Bearer isk_U1v2", malformed},
	{"Bearer isk_" + strings.Repeat("%", 44), malformed}, // wildcards of SQL LIKE
	{"Bearer isk_" + strings.Repeat("*", 44), malformed},
	{"Bearer isk_' OR '1'='1' OR 'aaaaaaaaaaaaaaaaaaaaaaaaa'='", malformed},
	{"Bearer isk_" + strings.Repeat("A", 200_000), malformed},
	{"Bearer KEY" + strings.Repeat("A", 200_000), malformed},
	{"Bearer KEY" + strings.Repeat(" ", 200_000) + "x", malformed},
	{"Bearer" + strings.Repeat(" ", 200_000) + "KEY", ok},

	// Well-formed, but nobody's.
	{"Bearer isk_" + strings.Repeat("A", 44), unknown},
	{"Bearer isk_" + strings.Repeat("_", 44), unknown},
	{"Bearer isk_" + strings.Repeat("-", 44), unknown},
	{"Bearer KEY433", unknown},
	{"Bearer isk_B" + goodKey[5:], unknown},
	{"Bearer isk_" + strings.ToLower(goodKey[4:]), unknown},
	{"Bearer isk_" + strings.ToUpper(goodKey[4:]), unknown},
	{"Bearer isk_" + goodHash.String()[:44], unknown},
	{"Bearer isk_" + base64.RawURLEncoding.EncodeToString(goodHash[:]) + "A", unknown},

	// Several fields (RFC 9110 section 5.3): one value, joined by commas, and never a key.
	{"Bearer KEY\nBearer KEY", malformed},
	{"Bearer KEY\nBearer KEY\nBearer KEY", malformed},
	{"Bearer KEY\nBearer isk_x", malformed},
	{"Bearer isk_x\nBearer KEY", malformed},
	{"Bearer KEY\nBearer x", malformed},
	{"Bearer x\nBearer KEY", format},
	{"Bearer KEY\nBasic x", malformed},
	{"Basic x\nBearer KEY", missing},
	{"Bearer KEY\n", malformed},
	{"\nBearer KEY", missing},
	{"\n", missing},
	{"Bearer\nKEY", missing},
	{"Bearer isk_\nSECRET", malformed},
	{"Bearer KEY\nKEY", malformed},
}

// wireFields are whole header lines: other names, and what only raw bytes can say.
var wireFields = []wireCase{
	{"authorization: Bearer KEY", ok},
	{"AUTHORIZATION: Bearer KEY", ok},
	{"Authorization:Bearer KEY", ok},
	{"Authorization: Bearer KEY\r\nauthorization: Bearer KEY", malformed},
	{"Authorization: Bearer KEY\nX-Other: bare line feed", ok}, // RFC 9112 section 2.2 lets a recipient take it
	{"Authorization: Bearer KEY\r\nProxy-Authorization: Bearer x", ok},

	// Obsolete line folding (RFC 9112 section 5.2): net/http makes it one space.
	{"Authorization:\r\n Bearer KEY", ok},
	{"Authorization: Bearer\r\n KEY", ok},
	{"Authorization: Bearer\r\n\tKEY", ok},
	{"Authorization: Bearer KEY\r\n ", ok},
	{"Authorization: Bearer isk_\r\n SECRET", malformed},
	{"Authorization: Bearer KEY\r\n Bearer KEY", malformed},
	{"Authorization: Bearer KEY\r\n , Bearer KEY", malformed},
	{"X-Other: x\r\n Authorization: Bearer KEY", missing},

	// A key elsewhere is never read.
	{"X-Other: x", missing},
	{"Proxy-Authorization: Bearer KEY", missing},
	{"X-Api-Key: KEY", missing},
	{"Api-Key: KEY", missing},
	{"X-Authorization: Bearer KEY", missing},
	{"X-Forwarded-Authorization: Bearer KEY", missing},
	{"Authorisation: Bearer KEY", missing},
	{"Authentication: Bearer KEY", missing},
	{"Authorizatio: Bearer KEY", missing},
	{"Authorization2: Bearer KEY", missing},
	{"Authorization-Key: Bearer KEY", missing},
	{"X-Isk: KEY", missing},
	{"Cookie: Authorization=Bearer KEY", missing},
	{"Cookie: api_key=KEY; token=KEY", missing},
	{"Sec-WebSocket-Protocol: bearer, KEY", missing},
	{"Www-Authenticate: Bearer KEY", missing},
	{"Referer: https://example.com/?key=KEY", missing},
	{"User-Agent: Bearer KEY", missing},
	{"X-Api-Key: KEY\r\nAuthorization: Bearer x", format},

	// What net/http itself refuses: control bytes, and names that are none.
	{"Authorization: Bearer KEY\x00", refused},
	{"Authorization: \x00Bearer KEY", refused},
	{"Authorization: Bearer\x00KEY", refused},
	{"Authorization: Bearer isk_\x00SECRET", refused},
	{"Authorization: Bearer KEY\x01", refused},
	{"Authorization: Bearer\x07KEY", refused},
	{"Authorization: Bearer KEY\x08", refused},
	{"Authorization: Bearer\x0bKEY", refused},
	{"Authorization: Bearer\x0cKEY", refused},
	{"Authorization: Bearer KEY\x1b[0m", refused},
	{"Authorization: Bearer KEY\x1f", refused},
	{"Authorization: Bearer KEY\x7f", refused},
	{"Authorization: Bearer\rKEY", refused},
	{"Authorization : Bearer KEY", refused},
	{" Authorization: Bearer KEY", refused},
	{"Author ization: Bearer KEY", refused},
	{"\u0410uthorization: Bearer KEY", refused},
	{"Authorization Bearer KEY", refused},
	{"Authorization\x00: Bearer KEY", refused},
}

// wireRequests are whole requests, but for the Host and the end of the header.
var wireRequests = []wireCase{
	{"GET /?api_key=KEY&access_token=KEY&authorization=Bearer+KEY HTTP/1.1", missing},
	{"GET /KEY HTTP/1.1", missing},
	{"GET http://KEY:@api.example/ HTTP/1.1", missing},
	{"GET http://isk_:KEY@api.example/ HTTP/1.1", missing},
	{"POST / HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 61\r\n\r\naccess_token=KEY", missing},
	{"POST / HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 61\r\n\r\n{\"apiKey\":\"KEY\"}", missing},
	{"POST / HTTP/1.1\r\nTrailer: Authorization\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nAuthorization: Bearer KEY\r\n\r\n", missing},
	{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nAuthorization: Bearer KEY\r\n\r\n", missing},
	{"POST / HTTP/1.1\r\nAuthorization: Bearer x\r\nContent-Length: 1\r\n\r\nx", format},
	{"OPTIONS / HTTP/1.1\r\nAccess-Control-Request-Method: GET", missing},
	{"GET / HTTP/1.1\r\nX-Http-Method-Override: OPTIONS", missing},
	{"HEAD / HTTP/1.1", missing},
	{"HEAD / HTTP/1.1\r\nAuthorization: Bearer x", format},
	{"HEAD / HTTP/1.1\r\nAuthorization: Bearer isk_x", malformed},
	{"HEAD / HTTP/1.1\r\nAuthorization: Bearer isk_" + "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB", unknown},
	{"GET / HTTP/1.1\r\nAccept: text/html", missing},
	{"GET / HTTP/1.1\r\nAccept: application/xml;q=1, */*;q=0", missing},
	{"GET / HTTP/1.1\r\nAccept-Encoding: gzip\r\nAccept-Language: de", missing},
	{"GET / HTTP/1.1\r\nIf-None-Match: *\r\nRange: bytes=0-1", missing},
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
