// Package postgres keeps API keys in PostgreSQL 13 and later. Its [Store] is a
// [keyring.Store] over database/sql. It reports changes, as an [auth.Watcher].
//
//	db, err := sql.Open("pgx", dsn) // import _ "github.com/jackc/pgx/v5/stdlib"
//	...
//	store, err := postgres.New(db, nil)
//	...
//	defer store.Close()
//	err = store.Migrate(ctx)
//	...
//	cached := cache.New(store, nil)
//	defer cached.Close()
//	a := auth.New(cached, nil)
//	manager := keyring.NewManager(store, nil)
//
// Connect to the primary server. A replica may be late, so it shows a revoked
// key as valid, and a cache that is filled from it keeps the key for its whole
// time to live.
//
// # Tables
//
// A table, api_keys unless [Options] name another, has one row for each key. It
// holds hashes and no key. The columns are called like the fields of
// [auth.Record]: id, hash (32 bytes, unique), hint, name, owner, scopes,
// metadata, created_at, created_by, updated_at, updated_by, revision,
// expires_at, disabled_at, revoked_at, last_used_at, rotated_from, rotated_to,
// chain. The table with the suffix _events holds what happened to them.
//
// [Migrations] holds the SQL for your migration tool. [Store.Migrate] runs it
// for those who use none.
//
// Times keep their microseconds. The rest is cut off. They come back in UTC,
// and must be in the years 1 to 9999. Scopes and metadata are JSON text. Nil
// and empty ones come back as nil. Text must be valid UTF-8. Except in scopes
// and metadata it must not have a NUL. Other records are errors, and nothing is
// written.
//
// # Writing with SQL
//
// Other programs and psql may change rows. A trigger then counts the revision
// up, sets updated_at to the current time, and updated_by to "sql:" and the
// role of the session. So a [keyring.Keyring] that read the row before does not
// overwrite the change. A new row needs an id, a hash and its id again as
// chain.
//
// A program that names the actor sets insigner.by in its transaction, to "by:"
// and the actor. Then it must count the revision up itself, by one, and set
// updated_at and updated_by.
//
// A program that inserts very many rows sets insigner.announce to "all" in its
// transaction: SET LOCAL insigner.announce = 'all'. Then its insertions are
// announced as one. From Go, [Store.InsertAll] does it.
//
// CHECK constraints refuse what cannot be read. If a row cannot be read all the
// same, it fails its own lookup, so that its key is answered with 503. In a
// list it is a [*keyring.RecordError], together with the other records.
//
// # Events
//
// A trigger writes an event in the transaction of each change, also of those
// made with SQL. [keyring.Event.By] is the actor, or "sql:" and the role of the
// session.
//
// The column role always holds that role. A new last use is no event. A
// TRUNCATE deletes each key.
//
// The trigger has the rights of the owner of the tables. So the role of the API
// needs SELECT, INSERT, UPDATE and DELETE on the table of the keys, and on the
// events only SELECT. It cannot change events.
//
// Events stay until you delete them, as the owner of the table.
//
// # Watching
//
// Triggers announce each change except a new last use, and [Store.Watch]
// listens. A revocation arrives within milliseconds after its commit, also one
// that was made with psql. A Store reports its own changes before the call that
// made them returns.
//
// A lost connection is reported at once, as [auth.WatchLost]. Watch connects
// again after 50 milliseconds to 5 seconds. A heartbeat finds out that
// announcements do not arrive although nothing fails, as after a failover. This
// takes at most Options.HeartbeatInterval plus Options.HeartbeatTimeout, 10
// seconds by default. In that time a cache may still accept a key that was
// revoked.
//
// All instances share the heartbeat. One of them checks the triggers and sends
// an announcement, which proves to each instance that hears it that changes
// still arrive. It also opens a new connection, to find out whether that leads
// to another server. So the cost is one short connection and one announcement
// per interval, however many instances there are, and one message to each of
// them. Each instance also compares, once per interval, the server of the
// *sql.DB with the one that it listens to, and discards idle connections that
// lead to another one. If the *sql.DB is busy, this is left out.
//
// A TRUNCATE is reported as [auth.WatchLost] and [auth.WatchStarted], and so is
// an insertion of more than a thousand records by [Store.InsertAll]. The
// heartbeat also finds that the table was dropped or replaced, that a trigger
// is missing or is not ENABLE ALWAYS, and that a table inherits from it. It
// does not see that somebody has disabled a trigger and enabled it again since
// the last heartbeat, or has replaced the function that it calls. Nor does it
// see that announcements arrive late, as long as they arrive.
//
// Watch takes the password from a connection of the *sql.DB. If passwords
// expire, as tokens of a cloud do, limit the life of connections by
// SetConnMaxLifetime.
//
// # Limits
//
// Set MaxOpenConns and MaxIdleConns of the *sql.DB to the same value. With the
// default of two idle connections, a busy server opens and closes connections
// all the time.
//
// At most Options.MaxLookups lookups use the *sql.DB at the same time. So a
// flood of made-up keys leaves connections for changes. A client that hangs up
// leaves the queue at once and costs no connection. Watch has one connection of
// its own, and the heartbeat a second one for a moment.
//
// # PgBouncer
//
// Session mode needs nothing special. Statement mode does not work, since a
// rotation is a transaction. In transaction mode, connect with
// default_query_exec_mode=exec in the DSN, and set Options.WatchConfig to
// connect to the server itself. Call Migrate without PgBouncer too.
//
// # API logs
//
// [Logs] keeps the entries of package apilog, in a table of its own.
//
// # Security
//
// The announcements hold hashes. Everybody who may connect to the database can
// listen to them. A hash alone is of no use, as in the hash column: it is not a
// key. Everybody who may connect can also send announcements. False ones make a
// cache discard copies, or hide for a minute that a trigger is missing or that
// new connections lead to another server. Let only those connect who need to.
// If others may create schemas, name the schema in Options.Table.
//
// A role that may change keys can name any actor in an event, by insigner.by.
// The column role tells who it was.
package postgres
