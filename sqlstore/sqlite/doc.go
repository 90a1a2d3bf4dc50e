// Package sqlite keeps API keys in an SQLite file, for SQLite 3.37 and later.
// Its [Store] is a [keyring.Store] over database/sql. It reports changes, as an
// [auth.Watcher]. The driver is that of modernc.org/sqlite, which needs no cgo.
//
//	db, err := sqlite.Open("keys.db")
//	...
//	store, err := sqlite.New(db, nil)
//	...
//	defer store.Close()
//	err = store.Migrate(ctx)
//	...
//	cached := cache.New(store, nil)
//	defer cached.Close()
//	a := auth.New(cached, nil)
//	manager := keyring.NewManager(store, nil)
//
// # Tables
//
// A table, api_keys unless [Options] name another, has one row for each key. It
// holds hashes and no key. The columns are called like the fields of
// [auth.Record]: id, hash (32 bytes, unique), hint, name, owner, scopes,
// metadata, created_at, created_by, updated_at, updated_by, revision,
// expires_at, disabled_at, revoked_at, last_used_at, rotated_from, rotated_to,
// chain. The table with the suffix _events holds what happened to them. The one
// with the suffix _actor is empty except during a change.
//
// [Migrations] holds the SQL for your migration tool. [Store.Migrate] runs it
// for those who use none.
//
// Times are microseconds since 1970 UTC. They must be in the years 1 to 9999.
// Scopes and metadata are JSON text. Nil and empty ones come back as nil. Text
// must be valid UTF-8. Except in scopes and metadata it must not have a NUL.
// Other records are errors, and nothing is written.
//
// # Writing with SQL
//
// Other programs and the sqlite3 shell may change rows. A trigger then counts
// the revision up, sets updated_at to the current time, and updated_by to
// "sql:". So a [keyring.Keyring] that read the row before does not overwrite
// the change. A new row needs an id, a hash and its id again as chain.
//
// A program that names the actor inserts it into the table with the suffix
// _actor and deletes it at the end of its transaction. Then it must count the
// revision up itself, by one, and set updated_at and updated_by.
//
// CHECK constraints and triggers refuse most of what cannot be read. If a row
// cannot be read all the same, it fails its own lookup, so that its key is
// answered with 503. In a list it is a [*keyring.RecordError], together with
// the other records.
//
// # Events
//
// A trigger writes an event in the transaction of each change:
// [keyring.Event.By] is the actor, or "sql:". A new last use is no event.
//
// SQLite calls no trigger for a row that INSERT OR REPLACE or UPDATE OR REPLACE
// deletes. The deletion has an event only if the new row has the same id, and
// the events of the old one are still there. Watch discards all copies after
// such statements.
//
// # Watching
//
// [Store.Watch] looks at the file five times a second. So it reports within a
// second what this process or another has committed, also with SQL. A Store
// reports its own changes before the call that made them returns. If there are
// more than 10,000 changes at once, or more than a thousand by
// [Store.InsertAll], it reports [auth.WatchLost] and [auth.WatchStarted].
//
// # API logs
//
// [Logs] keeps the entries of package apilog, best in a file of its own.
//
// # Limits
//
// The Stores of one process that write to the same file take turns, in the
// order in which they came. A writer of another process is waited for as long
// as the busy_timeout.
//
// Use a local disk. SQLite cannot share a file over a network.
package sqlite
