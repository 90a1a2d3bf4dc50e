package keyapi

import (
	_ "embed"
	"net/http"
)

//go:embed openapi.json
var openAPI []byte

// openAPI answers with the description of the API.
func (c *call) openAPI() error {
	if _, err := c.query(); err != nil {
		return err
	}
	c.writeBody(http.StatusOK, plainJSON, openAPI)
	return nil
}
