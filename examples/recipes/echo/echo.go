// Package echo shows an API built with echo.
package echo

import (
	"net/http"

	"github.com/labstack/echo/v5"

	"github.com/insigner/auth"
)

// NewApp returns an API whose routes require scopes.
func NewApp(store auth.Store) http.Handler {
	a := auth.New(store, nil)
	e := echo.New()
	e.GET("/health", func(c *echo.Context) error { return c.NoContent(http.StatusNoContent) })

	api := e.Group("/api", echo.WrapMiddleware(a.Middleware))
	api.GET("/documents", list, echo.WrapMiddleware(auth.Require("documents.read")))
	api.DELETE("/documents/:id", remove, echo.WrapMiddleware(auth.Require("documents.delete")))
	return e
}

func list(c *echo.Context) error {
	key, _ := auth.FromContext(c.Request().Context())
	return c.String(http.StatusOK, "the documents of "+key.Owner)
}

func remove(c *echo.Context) error { return c.NoContent(http.StatusNoContent) }
