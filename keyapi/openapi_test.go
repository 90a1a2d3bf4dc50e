package keyapi_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
)

// A document is the part of an OpenAPI document that these tests look at.
type document struct {
	OpenAPI    string                                `json:"openapi"`
	Paths      map[string]map[string]json.RawMessage `json:"paths"`
	Components struct {
		Schemas map[string]struct {
			Required   []string                   `json:"required"`
			Properties map[string]json.RawMessage `json:"properties"`
		} `json:"schemas"`
		Parameters map[string]struct{ Name, In string } `json:"parameters"`
		Responses  map[string]json.RawMessage           `json:"responses"`
	} `json:"components"`
}

type operation struct {
	ID         string `json:"operationId"`
	Parameters []struct {
		Ref string `json:"$ref"`
	} `json:"parameters"`
	RequestBody *struct {
		Required bool                       `json:"required"`
		Content  map[string]json.RawMessage `json:"content"`
	} `json:"requestBody"`
	Responses map[string]json.RawMessage `json:"responses"`
}

// readDocument returns the document that an API with these entries of metadata
// serves.
func readDocument(t *testing.T, metadata ...string) (doc document) {
	t.Helper()
	s := newServer(t, func(o *keyapi.Options, _ *keyring.Options) { o.Metadata = metadata })
	text := s.client("acme", "a").do("GET", "/openapi.json", "").is(200).text
	must(t, json.Unmarshal([]byte(text), &doc))
	return doc
}

// operations returns the operations by method and path.
func (d *document) operations(t *testing.T) map[string]operation {
	t.Helper()
	ops := make(map[string]operation)
	for path, item := range d.Paths {
		for method, raw := range item {
			if method == "parameters" {
				continue
			}
			var op operation
			must(t, json.Unmarshal(raw, &op))
			ops[strings.ToUpper(method)+" "+path] = op
		}
	}
	return ops
}

// A document without metadata is that of an API which shows none. It names the
// entries that are shown.
func TestOpenAPIMetadata(t *testing.T) {
	for _, names := range [][]string{nil, {"team"}, {`a "b"`, "$1", "team"}} {
		doc := readDocument(t, names...)
		for schema, entry := range map[string]string{"Key": `{"type":"string"}`, "NewKey": `{"type":"string"}`,
			"RevokedKey": `{"type":"string"}`, "CreateKey": `{"type":["string","null"]}`,
			"UpdateKey": `{"type":["string","null"]}`} {
			raw := doc.Components.Schemas[schema].Properties["metadata"]
			equal(t, schema+": has metadata", raw != nil, len(names) > 0)
			if raw == nil {
				continue
			}
			var metadata struct {
				Properties           map[string]json.RawMessage
				AdditionalProperties *bool
			}
			must(t, json.Unmarshal(raw, &metadata))
			same(t, schema+": entries", slices.Sorted(maps.Keys(metadata.Properties)), slices.Sorted(slices.Values(names)))
			same(t, schema+": others", metadata.AdditionalProperties, false)
			for name, text := range metadata.Properties {
				same(t, schema+": "+name, text, json.RawMessage(entry))
			}
		}
	}
}

// The description of each refusal lists its codes.
func TestOpenAPICodes(t *testing.T) {
	doc := readDocument(t)
	code := regexp.MustCompile(`[A-Z]+(_[A-Z]+)+|CONFLICT|FORBIDDEN`)
	listed := make(map[string]bool)
	for name, raw := range doc.Components.Responses {
		var response struct{ Description string }
		must(t, json.Unmarshal(raw, &response))
		codes := code.FindAllString(response.Description, -1)
		equal(t, name+": lists codes", len(codes) > 0, true)
		for _, c := range codes {
			listed[c] = true
		}
	}
	for _, c := range codes(t) {
		equal(t, c+" is listed", listed[c], c != "METHOD_NOT_ALLOWED") // which no operation has
	}
}

// codes returns all codes of answers: those in the source of this package, and
// those of an Authenticator.
func codes(t *testing.T) (all []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	must(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		must(t, err)
		for _, m := range regexp.MustCompile(`"([A-Z_]{4,})"`).FindAllSubmatch(text, -1) {
			if c := string(m[1]); !slices.Contains([]string{"POST", "PATCH", "DELETE"}, c) {
				all = append(all, c)
			}
		}
	}
	for _, err := range []error{auth.ErrMissingKey, auth.ErrInvalidFormat, auth.ErrInvalidKey} {
		all = append(all, auth.Code(err))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestOpenAPIHasAllRoutes(t *testing.T) {
	doc := readDocument(t)
	var routes []string
	for _, rt := range keyapi.Routes() {
		routes = append(routes, rt[0]+" "+rt[1])
	}
	same(t, "operations", slices.Sorted(maps.Keys(doc.operations(t))), slices.Sorted(slices.Values(routes)))
}

func TestOpenAPIOperations(t *testing.T) {
	doc := readDocument(t)
	ids := make(map[string]bool)
	for name, op := range doc.operations(t) {
		equal(t, name+": its operationId is another's", ids[op.ID] || op.ID == "", false)
		ids[op.ID] = true
		for _, status := range []string{"400", "401", "500", "503"} {
			equal(t, name+": has "+status, op.Responses[status] != nil, true)
		}
		_, path, _ := strings.Cut(name, " ")
		equal(t, name+": has 404", op.Responses["404"] != nil,
			strings.Contains(path, "{id}") || path == "/self/rotate" || path == "/self/revoke")
		equal(t, name+": has 413", op.Responses["413"] != nil, !strings.HasPrefix(name, "GET "))
		for _, p := range op.Parameters {
			equal(t, name+": "+p.Ref, doc.Components.Parameters[strings.TrimPrefix(p.Ref,
				"#/components/parameters/")].Name != "", true)
		}
	}
}

// Each query parameter of the document is known to the operation, and each
// other one is not.
func TestOpenAPIParameters(t *testing.T) {
	doc := readDocument(t)
	c := newServer(t).client("acme", "*")
	values := map[string]string{"limit": "5", "status": "active", "q": "x", "kind": "created",
		"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
	for name, op := range doc.operations(t) {
		method, path, _ := strings.Cut(name, " ")
		documented := make(map[string]bool)
		for _, p := range op.Parameters {
			documented[doc.Components.Parameters[strings.TrimPrefix(p.Ref, "#/components/parameters/")].Name] = true
		}
		for parameter, value := range values {
			a := c.do(method, strings.ReplaceAll(path, "{id}", "unknown")+"?"+parameter+"="+value, "")
			equal(t, name+": "+parameter+" is known", a.str("parameter") != parameter, documented[parameter])
		}
	}
}

// The members of the answers are those of the document.
func TestOpenAPIMembers(t *testing.T) {
	doc := readDocument(t, "team")
	c := newServer(t, func(o *keyapi.Options, _ *keyring.Options) { o.Metadata = []string{"team"} }).client("acme", "*")
	made := c.do("POST", "", `{"name":"key"}`).is(201)
	list := c.do("GET", "", "").is(200)
	events := c.do("GET", "/events", "").is(200)
	for schema, body := range map[string]map[string]any{
		"NewKey":     made.body,
		"Key":        c.do("GET", "/"+made.str("id"), "").is(200).body,
		"KeyList":    list.body,
		"Meta":       list.meta(),
		"Self":       c.do("GET", "/self", "").is(200).body,
		"Limits":     c.do("GET", "/self", "").body["limits"].(map[string]any),
		"EventList":  events.body,
		"Event":      events.data()[0],
		"Change":     events.data()[0]["changes"].(map[string]any)["name"].(map[string]any),
		"RevokedKey": c.do("POST", "/"+made.str("id")+"/revoke", andCreated).is(200).body,
	} {
		same(t, schema, slices.Sorted(maps.Keys(body)), slices.Sorted(maps.Keys(doc.Components.Schemas[schema].Properties)))
	}
}

// Each code of this package is documented, for operators and for customers.
func TestCodesAreDocumented(t *testing.T) {
	for _, page := range []string{"errors.md", "customers.md"} {
		text, err := os.ReadFile("../docs/" + page)
		must(t, err)
		for _, c := range codes(t) {
			equal(t, page+" has "+c, strings.Contains(string(text), "`"+c+"`"), true)
		}
	}
}
