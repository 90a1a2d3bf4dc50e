// Package gin shows an API built with gin.
package gin

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/insigner/auth"
)

// NewApp returns an API whose routes require scopes.
func NewApp(store auth.Store) http.Handler {
	a := auth.New(store, nil)
	router := gin.New()
	router.GET("/health", func(c *gin.Context) { c.Status(http.StatusNoContent) })

	api := router.Group("/api", Use(a.Middleware))
	api.GET("/documents", Use(auth.Require("documents.read")), list)
	api.DELETE("/documents/:id", Use(auth.Require("documents.delete")), remove)
	return router
}

// Use adapts middleware of net/http to gin.
func Use(middleware func(http.Handler) http.Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		passed := false
		next := func(w http.ResponseWriter, r *http.Request) {
			passed = true
			c.Request = r // with the key in its context
			c.Next()
		}
		if path := c.FullPath(); path != "" {
			c.Request.Pattern = c.Request.Method + " " + path // for logs
		}
		middleware(http.HandlerFunc(next)).ServeHTTP(c.Writer, c.Request)
		if !passed {
			c.Abort() // or the handlers of the route would run after the refusal
		}
	}
}

func list(c *gin.Context) {
	key, _ := auth.FromContext(c.Request.Context())
	c.String(http.StatusOK, "the documents of %s", key.Owner)
}

func remove(c *gin.Context) { c.Status(http.StatusNoContent) }
