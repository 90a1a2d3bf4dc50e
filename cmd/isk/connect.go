package main

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/insigner/auth/sqlstore/sqlite"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// A store is what both packages of sqlstore have.
type store interface {
	keyring.Store
	auth.Watcher
	Migrate(ctx context.Context) error
	Close() error
}

// A session is a connection to the database of the keys.
type session struct {
	keys   *keyring.Keyring // everybody's, in the name of who acts
	store  keyring.Store    // its errors that are no answer lead to exit code 4
	raw    store            // that store itself: a *postgres.Store or a *sqlite.Store
	db     *sql.DB
	kind   string // "postgres" or "sqlite"
	scheme auth.Scheme
	by     string // who acts, as --as says it
}

// open connects to the database, which must have the tables of the keys. The
// end of the run disconnects.
func (a *app) open(ctx context.Context) (*session, error) {
	s, err := a.connect(ctx, false)
	if err != nil {
		return nil, err
	}
	if err := s.needs(ctx, postgres.DefaultTable); err != nil {
		return nil, err
	}
	return s, nil
}

// connect connects to the database, which may be empty. If create is set, the
// file of SQLite need not exist.
func (a *app) connect(ctx context.Context, create bool) (*session, error) {
	scheme, err := a.scheme()
	if err != nil {
		return nil, err
	}
	by, err := a.who()
	if err != nil {
		return nil, err
	}
	location, err := a.location()
	if err != nil {
		return nil, err
	}
	s := &session{scheme: scheme, by: by}
	logger := slog.New(slog.DiscardHandler)
	if location.postgres != nil {
		s.kind = "postgres"
		s.db = stdlib.OpenDB(*location.postgres)
		s.db.SetMaxOpenConns(maxConns)
		s.db.SetMaxIdleConns(maxConns)
		a.onClose(func() { s.db.Close() })
		if s.raw, err = postgres.New(s.db, &postgres.Options{Logger: logger}); err != nil {
			return nil, err
		}
	} else {
		s.kind = "sqlite"
		if _, err := os.Stat(location.file); err != nil && !create {
			if errors.Is(err, os.ErrNotExist) {
				return nil, unavailable(fmt.Errorf("there is no file %s; isk migrate creates it", location.file))
			}
			return nil, unavailable(err)
		}
		if s.db, err = sqlite.Open(location.file); err != nil {
			return nil, unavailable(err)
		}
		a.onClose(func() { s.db.Close() })
		if s.raw, err = sqlite.New(s.db, &sqlite.Options{Logger: logger}); err != nil {
			return nil, unavailable(err)
		}
	}
	a.onClose(func() { s.raw.Close() })
	if err := s.db.PingContext(ctx); err != nil {
		return nil, unavailable(err)
	}
	s.store = markedStore{s.raw}
	s.keys = keyring.NewManager(s.store, &keyring.Options{Scheme: scheme}).Unconfined(by)
	return s, nil
}

// maxConns is how many connections a command has at most.
const maxConns = 4

// connectTimeout is how long a connection may take, unless the URL says it.
const connectTimeout = 10 * time.Second

// needs returns an error if the database has no such table.
func (s *session) needs(ctx context.Context, table string) error {
	there, err := s.has(ctx, table)
	if err != nil {
		return unavailable(err)
	}
	if !there {
		return unavailable(fmt.Errorf("the database has no table %s: run isk migrate, or check the name of the database", table))
	}
	return nil
}

// has reports whether the database has a table.
func (s *session) has(ctx context.Context, table string) (there bool, err error) {
	query := "SELECT to_regclass($1) IS NOT NULL"
	if s.kind == "sqlite" {
		query = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1)"
	}
	err = s.db.QueryRowContext(ctx, query, table).Scan(&there)
	return there, err
}

// A location is where the database is: one of both.
type location struct {
	postgres *pgx.ConnConfig
	file     string
}

// errURL is what is said of a URL that cannot be read. It does not quote it: in
// a wrong URL any part can be the password.
var errURL = errors.New("it is postgres://user@host/name or sqlite:///path; in a password, " +
	"characters other than letters and digits are percent-encoded (@ is %40), or the password is in the file PGPASSFILE")

// location returns where the database is, by the flags or the environment.
func (a *app) location() (location, error) {
	text, from, err := a.databaseURL()
	if err != nil {
		return location{}, err
	}
	u, err := url.Parse(text)
	// An @ in the path or the query can be that of a password with a / or a ?.
	if err != nil || u.Fragment != "" || u.Opaque != "" || strings.Contains(u.EscapedPath()+u.RawQuery, "@") {
		return location{}, wrongUsage("%s is no URL of a database: %w", from, errURL)
	}
	password, has := u.User.Password()
	a.secrets.add(password)
	for _, name := range []string{"password", "sslpassword"} {
		has = has || u.Query().Has(name)
		a.secrets.add(u.Query()[name]...)
	}
	if has && a.database != "" {
		a.warn("a password in --database stands in the history of the shell and in the list of processes; " +
			"use " + envDatabase + ", --database-file or PGPASSFILE")
	}
	switch u.Scheme {
	case "postgres", "postgresql":
		config, err := pgx.ParseConfig(text)
		if err != nil {
			return location{}, wrongUsage("%s cannot work: %s", from, a.secrets.strike(err.Error()))
		}
		a.secrets.add(config.Password)
		if config.ConnectTimeout == 0 {
			config.ConnectTimeout = connectTimeout
		}
		if config.RuntimeParams["application_name"] == "" {
			config.RuntimeParams["application_name"] = "isk"
		}
		return location{postgres: config}, nil
	case "sqlite":
		if u.Host != "" || u.Path == "" || u.RawQuery != "" || u.User != nil {
			return location{}, wrongUsage("%s: the path of an SQLite file follows three slashes, "+
				"as in sqlite:///var/lib/api/keys.db", from)
		}
		path := u.Path
		if filepath.VolumeName(path[1:]) != "" {
			path = path[1:] // /C:/keys.db
		}
		return location{file: filepath.FromSlash(path)}, nil
	}
	return location{}, wrongUsage("%s is no URL of a database: %w", from, errURL)
}

// databaseURL returns the URL and where it is from.
func (a *app) databaseURL() (text, from string, err error) {
	switch {
	case a.database != "" && a.databaseFile != "":
		return "", "", wrongUsage("there are both --database and --database-file")
	case a.database != "":
		return a.database, "--database", nil
	case a.databaseFile != "":
		text, err := readURL(a.databaseFile)
		if err != nil {
			return "", "", wrongUsage("--database-file %s: %w", a.databaseFile, fileError(err))
		}
		return text, "the first line of " + a.databaseFile, nil
	case a.getenv(envDatabase) != "":
		return strings.TrimSpace(a.getenv(envDatabase)), envDatabase, nil
	}
	return "", "", wrongUsage("no database is named: set " + envDatabase + ", or give --database-file")
}

// maxURL is the most that is read of the file with a URL.
const maxURL = 64 << 10

func readURL(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxURL))
	if err != nil {
		return "", err
	}
	line, _, _ := bytes.Cut(bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\ufeff"))), []byte("\n"))
	return string(bytes.TrimSpace(line)), nil
}

// A markedStore marks the errors of a store that say nothing about a key, so
// that they lead to exit code 4.
type markedStore struct{ store keyring.Store }

func mark(err error) error {
	for _, answer := range []error{auth.ErrNotFound, keyring.ErrConflict, keyring.ErrExists, errors.ErrUnsupported} {
		if errors.Is(err, answer) {
			return err
		}
	}
	if _, ok := errors.AsType[*keyring.RecordError](err); ok {
		return err
	}
	return unavailable(err)
}

func (s markedStore) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	r, err := s.store.Lookup(ctx, hash)
	return r, mark(err)
}

func (s markedStore) Insert(ctx context.Context, r *auth.Record) error {
	return mark(s.store.Insert(ctx, r))
}

func (s markedStore) Get(ctx context.Context, id string) (*auth.Record, error) {
	r, err := s.store.Get(ctx, id)
	return r, mark(err)
}

func (s markedStore) List(ctx context.Context, q keyring.Query) ([]*auth.Record, error) {
	records, err := s.store.List(ctx, q)
	return records, mark(err)
}

func (s markedStore) Update(ctx context.Context, r, successor *auth.Record) error {
	return mark(s.store.Update(ctx, r, successor))
}

func (s markedStore) Delete(ctx context.Context, id, by string) error {
	return mark(s.store.Delete(ctx, id, by))
}

func (s markedStore) Touch(ctx context.Context, lastUsed map[string]time.Time) error {
	return mark(s.store.Touch(ctx, lastUsed))
}

func (s markedStore) Events(ctx context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
	events, err := s.store.Events(ctx, q)
	return events, mark(err)
}

// version returns the version of the command.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown)"
	}
	return cmp.Or(info.Main.Version, "(devel)")
}
