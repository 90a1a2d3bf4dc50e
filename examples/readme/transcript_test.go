package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/keyring"
)

// call matches a curl command of the README. The answer follows it.
var call = regexp.MustCompile(`^curl -i( -H "Authorization: Bearer \$KEY")?(?: -X (\w+))? http://127\.0\.0\.1:8080(\S+)\n`)

// TestTranscript checks that the program answers what the README says, byte for
// byte except for the date.
func TestTranscript(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, transcript, found := strings.Cut(string(readme), "```console\n$ ")
	transcript, _, closed := strings.Cut(transcript, "\n```\n")
	if !found {
		t.Fatal("the README has no transcript")
	}
	if !closed {
		t.Fatal("the transcript of the README has no end")
	}
	store := new(keyring.MemoryStore)
	_, key, err := keyring.NewManager(store, nil).Unconfined("test").Create(t.Context(), keyring.Spec{
		Name: "Production Backend", Owner: "org_1", Scopes: auth.Scopes{"documents.read"}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(newApp(store))
	defer server.Close()

	calls := strings.Split(transcript, "\n$ ")
	if len(calls) != 3 {
		t.Errorf("the transcript has %d calls, want 3", len(calls))
	}
	for _, text := range calls {
		m := call.FindStringSubmatch(text)
		if m == nil {
			t.Errorf("not a call: %s", text)
			continue
		}
		r, err := http.NewRequest(m[2], server.URL+m[3], nil)
		if err != nil {
			t.Fatal(err)
		}
		if m[1] != "" {
			r = authtest.WithKey(r, key)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := httputil.DumpResponse(resp, true)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := normal(string(got)), normal(text[len(m[0]):]); got != want {
			t.Errorf("%sgot\n%s\nwant, by the README,\n%s", m[0], got, want)
		}
	}
}

var date = regexp.MustCompile(`(?m)^Date: .*`)

// normal removes what may differ: the date, the kind of line ends, the order of
// the header fields.
func normal(answer string) string {
	answer = date.ReplaceAllString(strings.ReplaceAll(answer, "\r\n", "\n"), "Date: some day")
	header, body, _ := strings.Cut(answer, "\n\n")
	fields := strings.Split(header, "\n")
	slices.Sort(fields[1:])
	return strings.Join(fields, "\n") + "\n\n" + strings.TrimSpace(body)
}
