package echo_test

import (
	"net/http"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/examples/recipes/internal/try"
	echolib "github.com/labstack/echo/v5"
)

// An adapter that calls next although the request was refused.
func TestCheckRoutesWithNext(t *testing.T) {
	try.FindsLateHandlers(t, func(store auth.Store) http.Handler {
		require := auth.New(store, nil).Require("documents.read")
		e := echolib.New()
		e.Use(func(next echolib.HandlerFunc) echolib.HandlerFunc {
			return func(c *echolib.Context) error {
				require(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { c.SetRequest(r) })).
					ServeHTTP(c.Response(), c.Request())
				return next(c)
			}
		})
		e.GET("/text", func(c *echolib.Context) error { return c.String(200, "hello") })
		e.GET("/json", func(c *echolib.Context) error { return c.JSON(200, 1) })
		return e
	}, "/text", "/json")
}
