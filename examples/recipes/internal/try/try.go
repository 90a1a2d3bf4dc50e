// Package try sends requests to the servers of the recipes, for their tests.
package try

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/insigner/auth"
)

// An Answer is what a server answered.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Code returns the code of a problem, such as "KEY_REVOKED", or "" if the body
// is no problem.
func (a Answer) Code() string {
	var p auth.Problem
	if json.Unmarshal([]byte(a.Body), &p) != nil {
		return ""
	}
	return p.Code
}

// Server starts a server for h, which is closed when the test ends, and returns
// its URL.
func Server(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// Header returns a header of the given names and values.
func Header(pairs ...string) http.Header {
	h := make(http.Header)
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// Bearer returns a header that carries key. Of the zero Key it is empty.
func Bearer(key auth.Key) http.Header {
	if key.Reveal() == "" {
		return make(http.Header)
	}
	return Header("Authorization", "Bearer "+key.Reveal())
}

// Send sends a request without a body and returns the answer. It ends the test
// without one.
func Send(t testing.TB, method, url string, header http.Header) Answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(""))
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	r.Header = header
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: body: %v", method, url, err)
	}
	return Answer{response.StatusCode, response.Header, string(body)}
}

// Cases are requests and their answers.
type Cases []struct {
	Name   string
	Route  string   // method and path
	Key    auth.Key // if zero, none is sent
	Status int
	Code   string // of the problem, or ""
}

// Check sends the request of each case and compares the answer.
func Check(t *testing.T, url string, cases Cases) {
	t.Helper()
	for _, c := range cases {
		method, path, _ := strings.Cut(c.Route, " ")
		got := Send(t, method, url+path, Bearer(c.Key))
		if got.Status != c.Status {
			t.Errorf("%s: %s: status %d, want %d", c.Name, c.Route, got.Status, c.Status)
		}
		if got.Code() != c.Code {
			t.Errorf("%s: %s: code %q, want %q", c.Name, c.Route, got.Code(), c.Code)
		}
	}
}
