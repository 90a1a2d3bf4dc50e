package records_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/insigner/auth/sqlstore/internal/records"
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite"
)

const (
	first  = `CREATE TABLE "api_keys" (id TEXT)`
	second = `ALTER TABLE "api_keys" ADD COLUMN more TEXT`
)

func columns(ctx context.Context, db interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}) (names []string, err error) {
	rows, err := db.QueryContext(ctx, "SELECT name FROM pragma_table_info('api_keys')")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// twoSteps is a dialect with two migrations.
var twoSteps = &records.Dialect{
	Package:  "test",
	Numbered: "?",
	By:       "%s",
	Same:     "IS",
	Migrations: fstest.MapFS{
		"00001_first.up.sql":  {Data: []byte(first)},
		"00002_second.up.sql": {Data: []byte(second)},
	},
	Goose:  goose.DialectSQLite3,
	Exists: "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = $1)",
	Differs: func(ctx context.Context, tx *sql.Tx, _ records.Table, files []string) ([]string, error) {
		have, err := columns(ctx, tx)
		return records.Missing([]string{"id", "more"}[:len(files)], have), err
	},
}

// Migrate executes what is missing, however many of the files another tool has
// executed.
func TestMigrateAdoptsSteps(t *testing.T) {
	for _, test := range []struct {
		before string
		fails  bool
	}{
		{"", false},
		{first, false},
		{first + ";" + second, false},
		{`CREATE TABLE "api_keys" (token TEXT)`, true},
	} {
		db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "db"))
		if err == nil {
			_, err = db.Exec(test.before)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		s, err := records.New(db, twoSteps, "", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Migrate(t.Context()); (err != nil) != test.fails {
				t.Errorf("%q: Migrate: %v, want an error: %t", test.before, err, test.fails)
			}
		}
		if test.fails {
			continue
		}
		got, err := columns(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"id", "more"}; !slices.Equal(got, want) {
			t.Errorf("%q: the columns are %q, want %q", test.before, got, want)
		}
		var versions string
		err = db.QueryRow("SELECT group_concat(version_id) FROM api_keys_goose").Scan(&versions)
		if got := fmt.Sprint(versions, err); got != "0,1,2<nil>" {
			t.Errorf("%q: the versions are %s, want 0,1,2", test.before, got)
		}
	}
}
