package keyapi_test

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

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

func readDocument(t *testing.T) (doc document) {
	t.Helper()
	text, err := os.ReadFile("openapi.json")
	must(t, err)
	must(t, json.Unmarshal(text, &doc))
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

func TestOpenAPIIsServed(t *testing.T) {
	want, err := os.ReadFile("openapi.json")
	must(t, err)
	a := newServer(t).client("acme", "a").do("GET", "/openapi.json", "").is(200)
	equal(t, "document", a.text, string(want))
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
	doc := readDocument(t)
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
