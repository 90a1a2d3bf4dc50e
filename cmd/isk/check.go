package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/insigner/auth/sqlstore/sqlite"
	"github.com/spf13/cobra"
)

func init() { register(databaseCommands, newCheck) }

func newCheck(a *app) *cobra.Command {
	var lifetime string
	c := &cobra.Command{
		Use:   "check",
		Short: "Check the database, the watcher and the keys",
		Long: `Check says what a support engineer needs: the version of the server and of the
tables, whether the triggers are there, whether changes reach those who watch
and after how long, how far the clock of the server differs from that of this
machine, the keys by state, records that cannot be read, and with --max-lifetime
the keys that live longer. The exit code is 1 if something is wrong.

It changes nothing. On PostgreSQL it sends one announcement of a hash that no
key has, which caches ignore. On SQLite it only waits until the watcher runs,
which then looks at the file five times a second.`,
		Example: `  isk check
  isk check --max-lifetime 365d --json`,
		Args: noArguments,
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("max-lifetime") {
				if d, err := parseDuration("--max-lifetime", lifetime); err != nil {
					return err
				} else if d == 0 {
					return wrongUsage("--max-lifetime is zero")
				}
			}
			s, err := a.open(c.Context())
			if err != nil {
				return err
			}
			r := &report{Database: s.kind, Unreadable: []unreadableJSON{}, LongLived: []string{}}
			if err := s.check(c.Context(), a, r, lifetime); err != nil {
				return err
			}
			return a.showReport(r)
		},
	}
	c.Flags().StringVar(&lifetime, "max-lifetime", "", "the longest `time` that keys should live: 365d")
	c.RegisterFlagCompletionFunc("max-lifetime", cobra.NoFileCompletions)
	return c
}

// A report is what isk check found.
type report struct {
	OK            bool           `json:"ok"`
	Database      string         `json:"database"`
	ServerVersion string         `json:"serverVersion"`
	SchemaVersion int64          `json:"schemaVersion"` // 0 if another tool made the tables
	Checks        []checkJSON    `json:"checks"`
	Keys          map[string]int `json:"keys"` // by state

	// WatchMilliseconds is how long an announcement took, or on SQLite until
	// the watcher ran. It is null if none arrived.
	WatchMilliseconds *float64 `json:"watchMilliseconds"`

	// ClockDifferenceMilliseconds is how far the clock of the server is ahead.
	ClockDifferenceMilliseconds float64 `json:"clockDifferenceMilliseconds"`

	Unreadable []unreadableJSON `json:"unreadable"`
	LongLived  []string         `json:"longLived"` // IDs of those that live longer than --max-lifetime
}

type checkJSON struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Message string `json:"message"`
}

type unreadableJSON struct {
	ID      string `json:"id"`
	Message string `json:"message"`
}

func (r *report) add(name string, ok bool, format string, args ...any) {
	r.Checks = append(r.Checks, checkJSON{name, ok, fmt.Sprintf(format, args...)})
}

func (a *app) showReport(r *report) error {
	bad := 0
	for i := range r.Checks {
		c := &r.Checks[i]
		c.Message = a.safe(c.Message)
		if !c.OK {
			bad++
		}
	}
	r.OK = bad == 0
	if a.json {
		if err := a.writeJSON(r); err != nil {
			return err
		}
	} else {
		t := a.newTable("", "CHECK", "RESULT")
		for _, c := range r.Checks {
			state := "ok"
			if !c.OK {
				state = "WRONG"
			}
			if err := t.add(state, c.Name, c.Message); err != nil {
				return err
			}
		}
		if err := t.end(); err != nil {
			return err
		}
	}
	if bad > 0 {
		return &failure{code: "CHECK_FAILED", exit: exitFailed,
			message: fmt.Sprintf("something is wrong: %d of %d checks", bad, len(r.Checks))}
	}
	return nil
}

// maxClockDifference is how far the clocks of servers may differ. The time of
// an API decides whether a key has expired.
const maxClockDifference = 5 * time.Second

// check makes all checks. An error means that the database cannot be asked.
func (s *session) check(ctx context.Context, a *app, r *report, maxLifetime string) error {
	for _, step := range []func() error{
		func() error { return s.checkServer(ctx, a, r) },
		func() error { return s.checkSchema(ctx, r) },
		func() error { return s.checkTriggers(ctx, r) },
	} {
		if err := step(); err != nil {
			return unavailable(err)
		}
	}
	s.checkWatch(ctx, r)
	return s.checkKeys(ctx, a, r, maxLifetime)
}

func (s *session) checkServer(ctx context.Context, a *app, r *report) error {
	if s.kind == "sqlite" {
		if err := s.db.QueryRowContext(ctx, "SELECT 'SQLite ' || sqlite_version()").Scan(&r.ServerVersion); err != nil {
			return err
		}
		r.add("connection", true, "%s", r.ServerVersion)
		r.add("clock", true, "it is that of this machine")
		return nil
	}
	var version, role string
	var replica bool
	begin := a.now()
	var clock time.Time
	err := s.db.QueryRowContext(ctx, `SELECT clock_timestamp(), 'PostgreSQL ' || current_setting('server_version'), current_user,
		pg_is_in_recovery()`).Scan(&clock, &version, &role, &replica)
	if err != nil {
		return err
	}
	trip := a.now().Sub(begin)
	r.ServerVersion = version
	if replica {
		r.add("connection", false, "%s, which is a replica: keys are managed on the primary", version)
	} else {
		r.add("connection", true, "%s, as %s, in %.1f ms", version, role, milliseconds(trip))
	}
	ahead := clock.Sub(begin.Add(trip / 2))
	r.ClockDifferenceMilliseconds = milliseconds(ahead)
	r.add("clock", ahead.Abs() <= maxClockDifference+trip/2, "that of the server is %.1f ms ahead of that of this machine",
		r.ClockDifferenceMilliseconds)
	return nil
}

func (s *session) checkSchema(ctx context.Context, r *report) error {
	for _, p := range migrationParts {
		name := "tables of the " + p.name
		there, err := s.has(ctx, p.table)
		if err != nil {
			return err
		}
		if !there { // those of the keys are there
			r.add(name, true, "not in this database")
			continue
		}
		version, err := s.version(ctx, p.table)
		if err != nil {
			return err
		}
		migrations, err := migrationsOf(p.files(s.kind))
		if err != nil {
			return err
		}
		newest := migrations[len(migrations)-1].version
		switch {
		case version == 0:
			r.add(name, true, "made by another tool; isk migrate compares them")
		case version < newest:
			r.add(name, false, "version %d, but %d is the newest: run isk migrate", version, newest)
		case version > newest:
			r.add(name, false, "version %d, but this command knows only %d: install a newer one", version, newest)
		default:
			r.add(name, true, "version %d, the newest", version)
		}
		if p.name == "keys" {
			r.SchemaVersion = version
		}
	}
	return nil
}

var (
	createdTrigger = regexp.MustCompile(`CREATE TRIGGER "(\w+)"[^;]*? ON "api_keys"`)
	alwaysTrigger  = regexp.MustCompile(`ENABLE ALWAYS TRIGGER "(\w+)"`)
)

// checkTriggers compares the triggers with those that the migrations create.
func (s *session) checkTriggers(ctx context.Context, r *report) error {
	migrations, err := migrationsOf(migrationParts[0].files(s.kind))
	if err != nil {
		return err
	}
	want := make(map[string]bool) // whether it must be ENABLE ALWAYS
	for _, m := range migrations {
		for _, match := range createdTrigger.FindAllStringSubmatch(m.sql, -1) {
			want[match[1]] = false
		}
		for _, match := range alwaysTrigger.FindAllStringSubmatch(m.sql, -1) {
			want[match[1]] = true
		}
	}
	query := `SELECT tgname, tgenabled = 'A', tgenabled IN ('A', 'O') FROM pg_trigger
		WHERE tgrelid = to_regclass('api_keys') AND NOT tgisinternal`
	if s.kind == "sqlite" {
		query = `SELECT name, true, true FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'api_keys'`
	}
	rows, err := s.db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	missing := want
	for rows.Next() {
		var name string
		var always, enabled bool
		if err := rows.Scan(&name, &always, &enabled); err != nil {
			return err
		}
		if must, ok := want[name]; ok && (always || enabled && !must) {
			delete(missing, name)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(missing) == 0 {
		r.add("triggers", true, "they are there")
		return nil
	}
	var names []string
	for name := range missing {
		names = append(names, name)
	}
	slices.Sort(names)
	r.add("triggers", false, "missing, or not enabled as they should be, so that changes have no events or are not announced: %s",
		strings.Join(names, ", "))
	return nil
}

// watchTimeout is how long an announcement may take.
const watchTimeout = 10 * time.Second

// checkWatch watches, and measures an announcement.
func (s *session) checkWatch(ctx context.Context, r *report) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	reasons := new(lastReason)
	watcher, err := s.watcher(slog.New(reasons))
	if err != nil {
		r.add("watcher", false, "%v", err)
		return
	}
	var hash auth.Hash
	rand.Read(hash[:])
	started, arrived := make(chan struct{}, 1), make(chan struct{}, 1)
	var done sync.WaitGroup
	defer done.Wait()
	defer watcher.Close()
	begin := time.Now()
	done.Go(func() {
		watcher.Watch(ctx, func(c auth.Change) {
			var signal chan struct{}
			switch {
			case c.Kind == auth.WatchStarted:
				signal = started
			case c.Kind == auth.RecordChanged && c.Hash == hash:
				signal = arrived
			default:
				return
			}
			select {
			case signal <- struct{}{}:
			default:
			}
		})
	})
	wait := func(signal chan struct{}, what string) bool {
		select {
		case <-signal:
			return true
		case <-ctx.Done():
			r.add("watcher", false, "%s%s", what, reasons.text())
			return false
		}
	}
	if !wait(started, "it does not start") {
		return
	}
	if s.kind == "sqlite" {
		r.WatchMilliseconds = new(milliseconds(time.Since(begin)))
		r.add("watcher", true, "it runs after %.1f ms, and looks at the file every 200 ms", *r.WatchMilliseconds)
		return
	}
	begin = time.Now()
	const notify = "SELECT pg_notify($1, $2)"
	_, err = s.db.ExecContext(ctx, notify, postgres.DefaultTable+"_changed", hex.EncodeToString(hash[:]))
	if err != nil {
		r.add("watcher", false, "%v", err)
		return
	}
	if wait(arrived, "announcements do not arrive") {
		r.WatchMilliseconds = new(milliseconds(time.Since(begin)))
		r.add("watcher", true, "an announcement arrived after %.1f ms", *r.WatchMilliseconds)
	}
}

// watcher returns a second store, which logs why it does not watch.
func (s *session) watcher(logger *slog.Logger) (store, error) {
	if s.kind == "sqlite" {
		return sqlite.New(s.db, &sqlite.Options{Logger: logger})
	}
	return postgres.New(s.db, &postgres.Options{Logger: logger})
}

// A lastReason is a slog.Handler that keeps the last error.
type lastReason struct {
	mu    sync.Mutex
	error string
}

func (l *lastReason) Enabled(context.Context, slog.Level) bool { return true }
func (l *lastReason) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lastReason) WithGroup(string) slog.Handler            { return l }

func (l *lastReason) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "error" {
			l.error = a.Value.String()
		}
		return true
	})
	return nil
}

func (l *lastReason) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.error == "" {
		return ""
	}
	return ": " + l.error
}

// checkKeys reads all keys.
func (s *session) checkKeys(ctx context.Context, a *app, r *report, maxLifetime string) error {
	r.Keys = map[string]int{}
	for _, name := range stateNames() {
		r.Keys[name] = 0
	}
	progress := a.newProgress("%d keys read")
	for record, err := range s.keys.List(ctx, keyring.Filter{}) {
		if row, ok := asRecordError(err); ok {
			r.Unreadable = append(r.Unreadable, unreadableJSON{row.ID, a.safe(row.Err.Error())})
			continue
		}
		if err != nil {
			return err
		}
		progress.add(1)
		state := a.statusOf(&record)
		r.Keys[state]++
		works := state == "active" || state == "disabled"
		latest, _ := after(record.CreatedAt, maxLifetime, 1)
		if maxLifetime != "" && works && (record.ExpiresAt.IsZero() || record.ExpiresAt.After(latest)) {
			r.LongLived = append(r.LongLived, record.ID)
		}
	}
	progress.clear()
	var counts []string
	for _, name := range stateNames() {
		counts = append(counts, fmt.Sprintf("%d %s", r.Keys[name], name))
	}
	r.add("keys", true, "%s", strings.Join(counts, ", "))
	if n := len(r.Unreadable); n > 0 {
		r.add("records", false, "%d cannot be read, so that their keys are answered with 503: %s", n,
			some(len(r.Unreadable), func(i int) string { return r.Unreadable[i].ID + " (" + r.Unreadable[i].Message + ")" }))
	} else {
		r.add("records", true, "all can be read")
	}
	if maxLifetime != "" {
		if n := len(r.LongLived); n > 0 {
			r.add("lifetime", false, "keys that work and live longer than is permitted: %d: %s", n,
				some(n, func(i int) string { return r.LongLived[i] }))
		} else {
			r.add("lifetime", true, "no key that works lives longer than is permitted")
		}
	}
	return nil
}

// some returns the first of n texts.
func some(n int, text func(i int) string) string {
	var texts []string
	for i := range min(n, 10) {
		texts = append(texts, text(i))
	}
	if n > 10 {
		texts = append(texts, "…")
	}
	return strings.Join(texts, ", ")
}
