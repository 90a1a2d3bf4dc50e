package keyapi

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"net/http"
	"regexp"
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
	c.writeBody(http.StatusOK, plainJSON, c.openAPI)
	return nil
}
