package keyapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
	"github.com/pb33f/jsonschema/v6"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	"github.com/pb33f/libopenapi-validator/errors"
	v3 "github.com/pb33f/libopenapi/datamodel/high/v3"
)

// ordinary are the header fields that any request or answer may have.
var ordinary = []string{"Authorization", "Content-Type", "Content-Length", "Cache-Control", "X-Content-Type-Options"}

// A document is an OpenAPI document with a validator for it. In requests, it
// refuses parameters and header fields that the document does not have.
type document struct {
	validator.Validator
	text       []byte
	version    string
	operations map[string]operation // by operationId
}

type operation struct {
	*v3.Operation
	method, path string
}

// statuses returns those that the document has for an operation.
func (o operation) statuses(t *testing.T) (all []int) {
	t.Helper()
	for code := range o.Responses.Codes.KeysFromOldest() {
		status, err := strconv.Atoi(code)
		must(t, err)
		all = append(all, status)
	}
	return all
}

func newDocument(t *testing.T, text []byte) *document {
	t.Helper()
	parsed, err := libopenapi.NewDocument(text)
	must(t, err)
	model, err := parsed.BuildV3Model()
	must(t, err)
	v, errs := validator.NewValidator(parsed,
		config.WithStrictMode(),
		config.WithStrictIgnoredHeaders(ordinary...),
		config.WithStrictIgnorePaths("$.body.**"), // it would refuse the entries of maps; see closed
		config.WithFormatAssertions(),
		config.WithRejectUnsupportedBodyContent(),
		config.WithRejectUndeclaredRequestBody(),
	)
	for _, err := range errs {
		t.Fatal(err)
	}
	d := &document{v, text, model.Model.Version, make(map[string]operation)}
	for path, item := range model.Model.Paths.PathItems.FromOldest() {
		for method, op := range item.GetOperations().FromOldest() {
			d.operations[op.OperationId] = operation{op, strings.ToUpper(method), path}
		}
	}
	return d
}

// check validates the document. That of OpenAPI 3.1 leaves its schemas to JSON
// Schema 2020-12.
func (d *document) check() error {
	if ok, errs := d.ValidateDocument(); !ok {
		return fmt.Errorf("the document is not valid:%s", lines(errs))
	}
	meta, err := jsonschema.NewCompiler().Compile("https://json-schema.org/draft/2020-12/schema")
	if err != nil {
		return err
	}
	tree, err := jsonschema.UnmarshalJSON(bytes.NewReader(d.text))
	if err != nil {
		return err
	}
	for _, schema := range schemas(tree) {
		if err := meta.Validate(schema); err != nil {
			return fmt.Errorf("the schema %v is not valid: %w", schema, err)
		}
	}
	return nil
}

// schemas returns the schemas in a part of a document, except those that are
// parts of others.
func schemas(part any) (found []any) {
	switch part := part.(type) {
	case []any:
		for _, element := range part {
			found = append(found, schemas(element)...)
		}
	case map[string]any:
		for name, member := range part {
			named, isMap := member.(map[string]any)
			switch {
			case name == "schema":
				found = append(found, member)
			case name == "schemas" && isMap:
				found = slices.AppendSeq(found, maps.Values(named))
			default:
				found = append(found, schemas(member)...)
			}
		}
	}
	return found
}

// served returns the document as the API serves it.
func served(t *testing.T) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	opts := &keyapi.Options{Metadata: []string{"team"}}
	api := keyapi.New(keyring.NewManager(new(keyring.MemoryStore), nil), opts)
	api.ServeHTTP(w, httptest.NewRequest("GET", "/openapi.json", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("GET /openapi.json is answered with %d", w.Code)
	}
	return w.Body.Bytes()
}

// closed returns a document in which no object has more members than the schema
// says. Clients must ignore what they do not know, so the document itself
// leaves that open.
func closed(t *testing.T, text []byte) []byte {
	t.Helper()
	tree, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	must(t, err)
	var closeAll func(part any)
	closeAll = func(part any) {
		switch part := part.(type) {
		case []any:
			for _, element := range part {
				closeAll(element)
			}
		case map[string]any:
			for _, member := range part {
				closeAll(member)
			}
			_, isObject := part["properties"]
			if _, is := part["additionalProperties"]; isObject && !is {
				part["additionalProperties"] = false
			}
		}
	}
	closeAll(tree)
	text, err = json.Marshal(tree)
	must(t, err)
	return text
}

func TestDocument(t *testing.T) {
	doc := newDocument(t, served(t))
	if doc.version != "3.1.0" {
		t.Errorf("version %s, want 3.1.0", doc.version)
	}
	if err := doc.check(); err != nil {
		t.Error(err)
	}
}

// Documents that are wrong are refused, so it means something that the
// document is not.
func TestDocumentRefused(t *testing.T) {
	text := string(served(t))
	for _, c := range []struct{ name, old, new string }{
		{"a response without a description", `"description": "The key.",`, ``},
		{"a parameter in an unknown place", `"in": "query"`, `"in": "body"`},
		{"an optional parameter of the path", `"schema": {"type": "string"},` + "\n        " + `"required": true`,
			`"schema": {"type": "string"}`},
		{"a schema of an unknown type", `"type": "boolean"`, `"type": "bool"`},
		{"an unknown member", `"summary": "Create a key"`, `"sumary": "Create a key"`},
	} {
		broken := strings.Replace(text, c.old, c.new, 1)
		if broken == text {
			t.Fatalf("%s: the document does not have %s", c.name, c.old)
		}
		if err := newDocument(t, []byte(broken)).check(); err == nil {
			t.Errorf("%s: accepted", c.name)
		}
	}
}

// lines returns errors, each on a line.
func lines(errs []*errors.ValidationError) string {
	var b strings.Builder
	for _, err := range errs {
		b.WriteString("\n\t" + err.Error())
	}
	return b.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
