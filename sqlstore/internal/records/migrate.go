package records

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// Migrate creates the table, or adopts the one that another tool made from the
// same files, and brings it up to date.
func (s *Store) Migrate(ctx context.Context) error {
	m := Migration{DB: s.db, Dialect: s.dialect, Table: s.Table, Option: "Options.Table", Turn: s.Turn, Logger: s.Logger}
	return s.wrap("migrate", m.Up(ctx))
}

// A Migration is that of a table, by the Migrations of a Dialect. Of the
// Dialect it needs Package, Schemas and Numbered, and what is said of
// Migrations there.
type Migration struct {
	DB      *sql.DB
	Dialect *Dialect
	Table   Table
	Option  string                                        // that has the name of the table, for errors
	Turn    func(context.Context) (end func(), err error) // as in Store
	Logger  *slog.Logger
}

// Up creates the table, or adopts it, and brings it up to date.
func (m *Migration) Up(ctx context.Context) error {
	versions, err := m.versionTable()
	if err != nil {
		return err
	}
	migrations, err := m.migrations(versions)
	if err != nil {
		return err
	}
	opts := []goose.ProviderOption{
		goose.WithStore(versions),
		goose.WithGoMigrations(migrations...),
		goose.WithDisableGlobalRegistry(true), // which holds migrations of the caller
		goose.WithSlog(m.Logger),
	}
	if m.Dialect.Locker != nil {
		opts = append(opts, goose.WithSessionLocker(m.Dialect.Locker(m.Table)))
	}
	provider, err := goose.NewProvider(goose.DialectCustom, m.DB, nil, opts...)
	if err != nil {
		return err
	}
	if m.Turn != nil {
		end, err := m.Turn(ctx)
		if err != nil {
			return err
		}
		defer end()
	}
	// A database without a lock that outlives a transaction: if another process
	// was faster, Up fails, and at the next attempt finds nothing to do.
	for attempt := 1; ; attempt++ {
		_, err = provider.Up(ctx)
		if err == nil || m.Dialect.Locker != nil || attempt == 20 || ctx.Err() != nil || errors.Is(err, errDiffers) {
			return err
		}
		time.Sleep(rand.N(50 * time.Millisecond))
	}
}

// migrations returns the SQL in Migrations, with the name of the table.
func (m *Migration) migrations(versions *versionTable) ([]*goose.Migration, error) {
	files, err := fs.ReadDir(m.Dialect.Migrations, ".")
	if err != nil {
		return nil, err
	}
	var all []*goose.Migration
	var texts []string
	for _, file := range files {
		text, err := fs.ReadFile(m.Dialect.Migrations, file.Name())
		if err != nil {
			return nil, err
		}
		number, _, _ := strings.Cut(file.Name(), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file.Name(), err)
		}
		texts = append(texts, string(text))
		upTo := slices.Clone(texts)
		run := func(ctx context.Context, tx *sql.Tx) error {
			if adopted, err := m.adopt(ctx, tx, versions, upTo); adopted || err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, m.Table.Render(upTo[len(upTo)-1]))
			return err
		}
		all = append(all, goose.NewGoMigration(version, &goose.GoFunc{RunTx: run}, nil))
	}
	return all, nil
}

var errDiffers = errors.New("the table exists already, but is another than Migrate creates")

// adopt reports whether the table is there already, exactly as these files make
// it, so that the last of them need not be executed.
func (m *Migration) adopt(ctx context.Context, tx *sql.Tx, versions *versionTable, files []string) (bool, error) {
	var exists bool
	err := tx.QueryRowContext(ctx, versions.exists, m.tableName("")).Scan(&exists)
	if err != nil || !exists {
		return false, err
	}
	differences, err := m.Dialect.Differs(ctx, tx, m.Table, files)
	if err == nil && len(differences) > 0 {
		if len(files) > 1 { // it is as the files before make it, which were executed or adopted
			return false, nil
		}
		err = fmt.Errorf("%w; if it is for something else, choose another %s: %s", errDiffers, m.Option, strings.Join(differences, "; "))
	}
	return err == nil, err
}

// maxDifferences is how many of them an error names.
const maxDifferences = 5

// Missing returns a line for each part in want that is not in have.
func Missing(want, have []string) (differences []string) {
	for _, part := range want {
		if !slices.Contains(have, part) {
			line, _, _ := strings.Cut(part, "\n")
			differences = append(differences, "not there as it should be: "+line)
		}
	}
	if n := len(differences) - maxDifferences; n > 0 {
		differences = append(differences[:maxDifferences], fmt.Sprintf("and %d more", n))
	}
	return differences
}

// tableName returns the parameter of Dialect.Exists.
func (m *Migration) tableName(suffix string) string {
	if m.Dialect.Schemas {
		return m.Table.Quoted(suffix)
	}
	return m.Table.Name + suffix
}

// A versionTable is that of goose, with a name that is quoted.
type versionTable struct {
	database.Store
	exists string
	name   string
}

func (m *Migration) versionTable() (*versionTable, error) {
	const suffix = "_goose"
	store, err := database.NewStore(m.Dialect.Goose, m.Table.Quoted(suffix))
	return &versionTable{store, m.Dialect.render(m.Dialect.Exists, m.Table), m.tableName(suffix)}, err
}

func (t *versionTable) TableExists(ctx context.Context, db database.DBTxConn) (exists bool, err error) {
	err = db.QueryRowContext(ctx, t.exists, t.name).Scan(&exists)
	return exists, err
}
