package gin_test

import (
	"net/http"
	"testing"

	ginlib "github.com/gin-gonic/gin"
	"github.com/insigner/auth"
	"github.com/insigner/auth/examples/recipes/internal/try"
)

// Without c.Abort() in the adapter, gin calls the handler of a refused request.
func TestCheckRoutesWithoutAbort(t *testing.T) {
	try.FindsLateHandlers(t, func(store auth.Store) http.Handler {
		require := auth.New(store, nil).Require("documents.read")
		r := ginlib.New()
		r.Use(func(c *ginlib.Context) {
			require(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { c.Request = r; c.Next() })).
				ServeHTTP(c.Writer, c.Request)
		})
		r.GET("/text", func(c *ginlib.Context) { c.String(200, "hello") })
		r.GET("/json", func(c *ginlib.Context) { c.JSON(200, ginlib.H{"a": 1}) })
		return r
	}, "/text", "/json")
}
