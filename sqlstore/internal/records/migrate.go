package records

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
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
func (s *Store) Migrate(ctx context.Context) error { return s.wrap("migrate", s.migrate(ctx)) }

func (s *Store) migrate(ctx context.Context) error {
	versions, err := s.versionTable()
	if err != nil {
		return err
	}
	migrations, err := s.migrations(versions)
	if err != nil {
		return err
	}
	opts := []goose.ProviderOption{
		goose.WithStore(versions),
		goose.WithGoMigrations(migrations...),
		goose.WithDisableGlobalRegistry(true), // which holds migrations of the caller
		goose.WithSlog(s.Logger),
	}
	if s.dialect.Locker != nil {
		opts = append(opts, goose.WithSessionLocker(s.dialect.Locker(s.Table)))
	}
	provider, err := goose.NewProvider(goose.DialectCustom, s.db, nil, opts...)
	if err != nil {
		return err
	}
	if s.Turn != nil {
		end, err := s.Turn(ctx)
		if err != nil {
			return err
		}
		defer end()
	}
	// A database without a lock that outlives a transaction: if another process
	// was faster, Up fails, and at the next attempt finds nothing to do.
	for attempt := 1; ; attempt++ {
		_, err = provider.Up(ctx)
		if err == nil || s.dialect.Locker != nil || attempt == 20 || ctx.Err() != nil || errors.Is(err, errDiffers) {
			return err
		}
		time.Sleep(rand.N(50 * time.Millisecond))
	}
}

// migrations returns the SQL in Migrations, with the name of the Store's table.
func (s *Store) migrations(versions *versionTable) ([]*goose.Migration, error) {
	files, err := fs.ReadDir(s.dialect.Migrations, ".")
	if err != nil {
		return nil, err
	}
	var all []*goose.Migration
	var texts []string
	for _, file := range files {
		text, err := fs.ReadFile(s.dialect.Migrations, file.Name())
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
			if adopted, err := s.adopt(ctx, tx, versions, upTo); adopted || err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, s.Table.Render(upTo[len(upTo)-1]))
			return err
		}
		all = append(all, goose.NewGoMigration(version, &goose.GoFunc{RunTx: run}, nil))
	}
	return all, nil
}

var errDiffers = errors.New("the table exists already, but is another than Migrate creates")

// adopt reports whether the table is there already, exactly as these files make
// it, so that the last of them need not be executed.
func (s *Store) adopt(ctx context.Context, tx *sql.Tx, versions *versionTable, files []string) (bool, error) {
	var exists bool
	err := tx.QueryRowContext(ctx, versions.exists, s.tableName("")).Scan(&exists)
	if err != nil || !exists {
		return false, err
	}
	differences, err := s.dialect.Differs(ctx, tx, s.Table, files)
	if err == nil && len(differences) > 0 {
		if len(files) > 1 { // it is as the files before make it, which were executed or adopted
			return false, nil
		}
		err = fmt.Errorf("%w; if it is not for keys, set Options.Table: %s", errDiffers, strings.Join(differences, "; "))
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
func (s *Store) tableName(suffix string) string {
	if s.dialect.Schemas {
		return s.Table.Quoted(suffix)
	}
	return s.Table.Name + suffix
}

// A versionTable is that of goose, with a name that is quoted.
type versionTable struct {
	database.Store
	exists string
	name   string
}

func (s *Store) versionTable() (*versionTable, error) {
	const suffix = "_goose"
	store, err := database.NewStore(s.dialect.Goose, s.Table.Quoted(suffix))
	return &versionTable{store, s.dialect.render(s.dialect.Exists, s.Table), s.tableName(suffix)}, err
}

func (t *versionTable) TableExists(ctx context.Context, db database.DBTxConn) (exists bool, err error) {
	err = db.QueryRowContext(ctx, t.exists, t.name).Scan(&exists)
	return exists, err
}
