package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/insigner/auth/sqlstore/sqlite"
	"github.com/spf13/cobra"
)

func init() { register(databaseCommands, newMigrate) }

func newMigrate(a *app) *cobra.Command {
	var only string
	var dryRun bool
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Create the tables, or bring them up to date",
		Long: `Migrate creates the tables of the keys and of the API logs, or brings them up to
date. It adopts tables that a migration tool made from the same files. An SQLite
file is created if it does not exist.

With --dry-run it changes nothing, and prints the SQL that it would run. It
needs no terminal and does not ask.`,
		Example: `  isk migrate
  isk migrate --only keys
  isk migrate --dry-run > migration.sql`,
		Args: noArguments,
		RunE: func(c *cobra.Command, args []string) error {
			parts := migrationParts
			if c.Flags().Changed("only") {
				i := slices.IndexFunc(parts, func(p migrationPart) bool { return p.name == only })
				if i < 0 {
					return wrongUsage("--only is keys or logs")
				}
				parts = parts[i : i+1]
			}
			if dryRun {
				return a.printMigrations(c.Context(), parts)
			}
			s, err := a.connect(c.Context(), true)
			if err != nil {
				return err
			}
			tables := []tableJSON{}
			for _, p := range parts {
				t, err := s.migrate(c.Context(), p)
				if err != nil {
					return err
				}
				tables = append(tables, t)
				if t.From == t.To {
					a.say("%s is up to date, at version %d.", t.Table, t.To)
				} else {
					a.say("%s is now at version %d.", t.Table, t.To)
				}
			}
			if a.json {
				return a.writeJSON(map[string]any{"tables": tables})
			}
			return nil
		},
	}
	flags := c.Flags()
	flags.StringVar(&only, "only", "", "only the tables of the `keys` or of the logs")
	flags.BoolVar(&dryRun, "dry-run", false, "change nothing, and print the SQL that would run")
	c.RegisterFlagCompletionFunc("only", cobra.FixedCompletions([]string{"keys", "logs"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// A migrationPart is a table with its files.
type migrationPart struct {
	name, table      string
	postgres, sqlite fs.FS
}

var migrationParts = []migrationPart{
	{"keys", postgres.DefaultTable, postgres.Migrations, sqlite.Migrations},
	{"logs", postgres.DefaultLogsTable, postgres.LogsMigrations, sqlite.LogsMigrations},
}

// A tableJSON is a table that was migrated.
type tableJSON struct {
	Table string `json:"table"`
	From  int64  `json:"from"` // version; 0 if it was not there, or another tool made it
	To    int64  `json:"to"`
}

func (s *session) migrate(ctx context.Context, p migrationPart) (t tableJSON, err error) {
	t.Table = p.table
	if t.From, err = s.version(ctx, p.table); err != nil {
		return t, unavailable(err)
	}
	var migrator interface{ Migrate(context.Context) error } = s.raw
	if p.name == "logs" {
		if migrator, err = s.logs(); err != nil {
			return t, err
		}
	}
	if err := migrator.Migrate(ctx); err != nil {
		return t, err
	}
	t.To, err = s.version(ctx, p.table)
	return t, err
}

// version returns the version of a table, or 0 if it was not migrated.
func (s *session) version(ctx context.Context, table string) (version int64, err error) {
	if there, err := s.has(ctx, table+"_goose"); err != nil || !there {
		return 0, err
	}
	query := "SELECT coalesce(max(version_id), 0) FROM " + table + "_goose WHERE is_applied"
	err = s.db.QueryRowContext(ctx, query).Scan(&version)
	return version, err
}

// files returns the files of a part for a kind of database.
func (p migrationPart) files(kind string) fs.FS {
	if kind == "sqlite" {
		return p.sqlite
	}
	return p.postgres
}

// A migration is a file with its version.
type migration struct {
	version int64
	name    string
	sql     string
}

// migrationsOf returns the files in their order.
func migrationsOf(files fs.FS) ([]migration, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, err
	}
	var all []migration
	for _, e := range entries {
		number, _, _ := strings.Cut(e.Name(), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, err
		}
		text, err := fs.ReadFile(files, e.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, migration{version, e.Name(), string(text)})
	}
	return all, nil
}

// printMigrations prints the SQL that is still to be executed.
func (a *app) printMigrations(ctx context.Context, parts []migrationPart) error {
	location, err := a.location()
	if err != nil {
		return err
	}
	var s *session // nil: there is no file yet
	kind := "sqlite"
	if _, err := os.Stat(location.file); location.postgres != nil || !errors.Is(err, fs.ErrNotExist) {
		if s, err = a.connect(ctx, false); err != nil {
			return err
		}
		kind = s.kind
	}
	files := []map[string]any{}
	for _, p := range parts {
		var version int64
		if s != nil {
			if version, err = s.version(ctx, p.table); err != nil {
				return unavailable(err)
			}
			there, err := s.has(ctx, p.table)
			if err != nil {
				return unavailable(err)
			}
			if there && version == 0 {
				a.say("%s was made by another tool. Migrate compares it with these files, "+
					"and runs those that are missing.", p.table)
			}
		}
		migrations, err := migrationsOf(p.files(kind))
		if err != nil {
			return err
		}
		for _, m := range migrations {
			if m.version <= version {
				continue
			}
			files = append(files, map[string]any{"table": p.table, "file": m.name, "sql": m.sql})
			if !a.json {
				if _, err := io.WriteString(a.stdout, fmt.Sprintf("-- %s\n%s\n", m.name, m.sql)); err != nil {
					return err
				}
			}
		}
	}
	if a.json {
		return a.writeJSON(files)
	}
	if len(files) == 0 {
		a.say("Nothing is to be done.")
	}
	return nil
}
