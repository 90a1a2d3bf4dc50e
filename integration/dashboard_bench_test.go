package integration

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/dashboard"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/insigner/auth/sqlstore/sqlite"
)

// BenchmarkDashboard measures each page with ten million entries of API logs, as
// in BenchmarkLogs, and 10,000 keys: 10 of each owner.
//
//	go test -run '^$' -bench Dashboard -benchtime 1x -timeout 1h .
func BenchmarkDashboard(b *testing.B) {
	b.Run("postgres", func(b *testing.B) {
		db, logs, _ := loadedPostgres(b)
		keys, err := postgres.New(db, nil)
		fatal(b, err)
		defer keys.Close()
		fatal(b, keys.Migrate(b.Context()))
		measurePages(b, keys, logs)
	})
	b.Run("sqlite", func(b *testing.B) {
		_, logs := loadedSQLite(b)
		db, err := sqlite.Open(filepath.Join(b.TempDir(), "keys.db"))
		fatal(b, err)
		defer db.Close()
		keys, err := sqlite.New(db, nil)
		fatal(b, err)
		defer keys.Close()
		fatal(b, keys.Migrate(b.Context()))
		measurePages(b, keys, logs)
	})
}

func measurePages(b *testing.B, keys keyring.Store, logs apilog.Store) {
	scheme := auth.Scheme{Catalog: auth.PublishedCatalog()}
	manager := keyring.NewManager(keys, &keyring.Options{Scheme: scheme})
	at := logsEnd.AddDate(0, 0, -60)
	for owner := range logOwners {
		for key := range logKeys {
			id, secret := logKey(owner, key), scheme.NewKey()
			r := auth.Record{ID: id, Chain: id, Hint: secret.Hint(), Name: fmt.Sprintf("Key %d", key), Owner: logOwner(owner),
				Hash: scheme.Hashes(secret)[0], Scopes: auth.Scopes{"documents.*"}, CreatedAt: at.Add(time.Duration(owner*logKeys+key) * time.Second),
				CreatedBy: "ada", UpdatedAt: at, UpdatedBy: "ada", Revision: 1}
			fatal(b, keys.Insert(b.Context(), &r))
		}
	}
	viewer := dashboard.Viewer{}
	server := httptest.NewServer(dashboard.New(dashboard.Options{
		Manager: manager,
		Viewer:  func(http.ResponseWriter, *http.Request) (dashboard.Viewer, bool) { return viewer, true },
		Logs:    logs,
	}))
	defer server.Close()
	for _, who := range []struct {
		name   string
		viewer dashboard.Viewer
		owner  int
	}{
		{"an owner with 9,700 entries", dashboard.Viewer{Actor: keyring.Actor{Name: "ada", Owner: logOwner(7), Scopes: auth.Scopes{"*"}}}, 7},
		{"an owner with 316,000 entries", dashboard.Viewer{Actor: keyring.Actor{Name: "ada", Owner: logOwner(1), Scopes: auth.Scopes{"*"}}}, 1},
		{"an owner with 2 million entries", dashboard.Viewer{Actor: keyring.Actor{Name: "ada", Owner: logOwner(0), Scopes: auth.Scopes{"*"}}}, 0},
		{"staff, all owners", dashboard.Viewer{Actor: keyring.Actor{Name: "sam"}, Staff: true}, 1},
	} {
		viewer = who.viewer
		key := logKey(who.owner, 3)
		to := "to=" + logsEnd.Format("2006-01-02T15:04")
		paths := []string{"", "?status=any", "?status=rotated", "?q=key", "keys/" + key, "activity", "logs?" + to, "logs?key=" + key + "&" + to, "logs?status=5xx&" + to}
		if !viewer.Staff {
			paths = append(paths, "keys/new", "keys/"+key+"/edit", "keys/"+key+"/rotate", "keys/"+key+"/revoke")
		}
		for _, path := range paths {
			var took []time.Duration
			size := 0
			for range 20 {
				start := time.Now()
				size = len(fetch(b, server.URL+"/"+path))
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			fmt.Printf("%-32s %-60s p50 %4d ms, max %4d ms, %6d bytes\n", who.name, strings.ReplaceAll(path, key, "{id}"),
				took[len(took)/2].Milliseconds(), took[len(took)-1].Milliseconds(), size)
		}
	}
	viewer = dashboard.Viewer{Actor: keyring.Actor{Name: "ada", Owner: logOwner(7), Scopes: auth.Scopes{"*"}}}
	page := fetch(b, server.URL+"/")
	all := append([]string{page}, assets(b, server.URL, page)...)
	fmt.Printf("first load: %d requests, %d bytes, %d with gzip\n", len(all), len(strings.Join(all, "")), gzipped(all))
}

func fetch(b *testing.B, url string) string {
	b.Helper()
	resp, err := http.Get(url)
	fatal(b, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fatal(b, err)
	if resp.StatusCode != http.StatusOK {
		b.Fatalf("%s: %d: %s", url, resp.StatusCode, body)
	}
	return string(body)
}

// assets returns what a page needs.
func assets(b *testing.B, url, page string) (all []string) {
	for _, m := range regexp.MustCompile(`(?:href|src)="\./(assets/[^"]*)"`).FindAllStringSubmatch(page, -1) {
		all = append(all, fetch(b, url+"/"+m[1]))
	}
	return all
}

func gzipped(texts []string) (n int) {
	for _, text := range texts {
		var size counter
		w := gzip.NewWriter(&size)
		io.WriteString(w, text)
		w.Close()
		n += int(size)
	}
	return n
}

type counter int

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }
