package try

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/keyring"
)

// FindsLateHandlers checks that authtest.CheckRoutes reports each route of a
// router whose handlers run although the request was refused.
func FindsLateHandlers(t *testing.T, newRouter func(store auth.Store) http.Handler, routes ...string) {
	store := new(keyring.MemoryStore)
	router, key := newRouter(store), authtest.NewKey(t, store)
	for _, route := range routes {
		f := &failing{TB: t}
		authtest.CheckRoutes(f, router, key, route)
		if got := strings.Join(f.failures, "\n"); !strings.Contains(got, "the handler ran") {
			t.Errorf("%s: CheckRoutes reports %q, want that the handler ran", route, got)
		}
	}
}

// A failing is a testing.TB that collects failures instead of failing.
type failing struct {
	testing.TB
	failures []string
}

func (f *failing) Helper() {}

func (f *failing) Errorf(format string, args ...any) {
	f.failures = append(f.failures, fmt.Sprintf(format, args...))
}
