package keyapi

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
)

//go:embed openapi.json
var openAPITemplate []byte

// In the template, a schema for metadata follows another property, and permits
// entries with any name.
var (
	metadataSchema = regexp.MustCompile(`(?s),\n *"metadata": \{.*?\n *\}`)
	anyEntry       = regexp.MustCompile(`"additionalProperties": (\{.*\})`)
)

// openAPIFor returns the description of an API that shows these entries of the
// metadata.
func openAPIFor(names []string) []byte {
	return metadataSchema.ReplaceAllFunc(openAPITemplate, func(schema []byte) []byte {
		if len(names) == 0 {
			return nil
		}
		entry := anyEntry.FindSubmatch(schema)
		var b bytes.Buffer
		for i, name := range names {
			if i > 0 {
				b.WriteString(", ")
			}
			quoted, _ := json.Marshal(name) // a string can be marshaled
			b.Write(quoted)
			b.WriteString(": ")
			b.Write(entry[1])
		}
		return bytes.Replace(schema, entry[0], []byte(`"properties": {`+b.String()+`}, "additionalProperties": false`), 1)
	})
}

// serveOpenAPI answers with the description of the API.
func (c *call) serveOpenAPI() error {
	if _, err := c.query(); err != nil {
		return err
	}
	c.writeBody(http.StatusOK, plainJSON, c.withServer(c.openAPI))
	return nil
}

// withServer returns the description with the URL of the API, relative to where
// the client has the description from. It has no slash at the end, since each
// path begins with one.
func (c *call) withServer(description []byte) []byte {
	path, _, _ := strings.Cut(c.r.RequestURI, "?")
	segments := strings.Split(strings.TrimSuffix(path, "/"), "/")
	if len(segments) < 3 { // at the root of the host
		return description
	}
	quoted, _ := json.Marshal("../" + segments[len(segments)-2]) // a string can be marshaled
	return bytes.Replace(description, []byte(`"url": "."`), append([]byte(`"url": `), quoted...), 1)
}
