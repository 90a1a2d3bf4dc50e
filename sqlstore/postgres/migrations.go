package postgres

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"hash/fnv"
	"regexp"

	"github.com/insigner/auth/sqlstore/internal/records"
	"github.com/pressly/goose/v3/lock"
)

// Migrations holds the SQL for your migration tool: 00001_api_keys.up.sql and,
// in later releases, further files. goose, golang-migrate, sql-migrate, dbmate,
// tern and psql each run them. The table is api_keys. For another name, replace
// it in the files: sed s/api_keys/my_keys/g.
//
//go:embed *_api_keys.up.sql
var Migrations embed.FS

// Migrate creates the tables if they do not exist, and brings them up to date.
// It adopts tables that a migration tool made from [Migrations]. If there is
// another table with the name, the error says how it differs.
//
// Several processes may call it at the same time: one migrates, and the others
// wait for it until ctx is done. A table with the suffix _goose holds what was
// done. Do not call Migrate through a pooler that shares connections among
// clients: it holds a lock of the session.
func (s *Store) Migrate(ctx context.Context) error { return s.keys.Migrate(ctx) }

// An advisoryLock is a lock.SessionLocker. That of goose asks once a second, so
// ten instances that start together take ten seconds. This one waits in the
// server.
type advisoryLock int64

func locker(t records.Table) lock.SessionLocker {
	id := fnv.New64a()
	id.Write([]byte("sqlstore " + t.Name)) // not the schema, which may be left out
	return advisoryLock(id.Sum64())
}

func (l advisoryLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", int64(l))
	return err
}

func (l advisoryLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", int64(l))
	return err
}

// partsQuery returns a line for each part of the table $1, of the tables that
// belong to it and of its functions, in the schema of the table $2: a column,
// constraint, index, trigger or function.
const partsQuery = `
	WITH rels AS (
		SELECT c.oid, c.relname FROM pg_class c
		WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass($2))
			AND c.relname IN ($1::text, $1::text || '_events', $1::text || '_default')),
	parts AS (
		SELECT format('owner of %s is %s', rels.relname, pg_get_userbyid(relowner)) AS part
		FROM rels JOIN pg_class c ON c.oid = rels.oid
	UNION ALL
		SELECT concat('column ', relname, '.', attname, ' ', format_type(atttypid, atttypmod),
			(SELECT ' COLLATE ' || quote_ident(collname) FROM pg_collation c JOIN pg_type t ON t.oid = atttypid
				WHERE c.oid = attcollation AND attcollation <> typcollation),
			CASE WHEN attnotnull THEN ' NOT NULL' END, CASE attidentity WHEN 'a' THEN ' GENERATED ALWAYS AS IDENTITY' END,
			' DEFAULT ' || pg_get_expr(adbin, adrelid)) AS part
		FROM rels JOIN pg_attribute ON attrelid = rels.oid
			LEFT JOIN pg_attrdef ON adrelid = rels.oid AND adnum = attnum
		WHERE attnum > 0 AND NOT attisdropped
	UNION ALL
		SELECT format('partition key of %s: %s', relname, pg_get_partkeydef(oid)) FROM rels
		WHERE pg_get_partkeydef(oid) IS NOT NULL
	UNION ALL
		SELECT format('index %s', pg_get_indexdef(indexrelid)) FROM rels JOIN pg_index ON indrelid = rels.oid
	UNION ALL
		SELECT format('constraint %s: %s', conname, pg_get_constraintdef(c.oid))
		FROM rels JOIN pg_constraint c ON conrelid = rels.oid WHERE contype IN ('c', 'p', 'u')
	UNION ALL
		SELECT format('trigger %s %s %s', tgname, CASE tgenabled WHEN 'A' THEN 'ALWAYS' ELSE 'not always' END,
			pg_get_triggerdef(t.oid))
		FROM rels JOIN pg_trigger t ON tgrelid = rels.oid WHERE NOT tgisinternal
	UNION ALL
		SELECT format('function %s of %s: %s %s %s%s', proname, pg_get_userbyid(proowner), prosecdef, proconfig,
			md5(replace(prosrc, quote_literal(nspname), '')),
			CASE WHEN prosecdef AND has_function_privilege('public', p.oid, 'EXECUTE') THEN ', and anybody may call it' END)
		FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
		WHERE pronamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass($2))
			AND proname IN ($1::text || '_revise', $1::text || '_record', $1::text || '_notify', $1::text || '_prepare',
				$1::text || '_expire'))
	SELECT part FROM parts ORDER BY part`

// differs returns which parts of the tables are missing, or are others than
// those of Migrations. Parts that somebody added do not count.
func differs(ctx context.Context, tx *sql.Tx, t records.Table, files []string) ([]string, error) {
	have, err := partsOf(ctx, tx, t)
	if err != nil {
		return nil, err
	}
	// The same tables, in the schema of the session, for a moment.
	model := records.Table{Schema: "pg_temp", Name: t.Name}
	if _, err := tx.ExecContext(ctx, "SAVEPOINT auth_migrate"); err != nil {
		return nil, err
	}
	for _, text := range files {
		if _, err := tx.ExecContext(ctx, model.Render(text)); err != nil {
			return nil, fmt.Errorf("cannot compare the table that exists: %w", err)
		}
	}
	want, err := partsOf(ctx, tx, model)
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT auth_migrate"); err != nil {
		return nil, err
	}
	return records.Missing(want, have), nil
}

func partsOf(ctx context.Context, tx *sql.Tx, t records.Table) ([]string, error) {
	var schema string
	err := tx.QueryRowContext(ctx, `SELECT coalesce((SELECT quote_ident(nspname) FROM pg_namespace n
		JOIN pg_class c ON relnamespace = n.oid WHERE c.oid = to_regclass($1)), '')`, t.Quoted("")).Scan(&schema)
	if err != nil {
		return nil, err
	}
	rows, err := tx.QueryContext(ctx, partsQuery, t.Name, t.Quoted(""))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	// The name of the schema may be the end of that of a table, as in keys.api_keys.
	qualifier, err := regexp.Compile(`\b(ON|ONLY|FUNCTION) (?:` + regexp.QuoteMeta(schema) + `|pg_temp(?:_\d+)?)\.`)
	if err != nil {
		return nil, err
	}
	var parts []string
	for rows.Next() {
		var part string
		if err := rows.Scan(&part); err != nil {
			return nil, err
		}
		parts = append(parts, qualifier.ReplaceAllString(part, "$1 "))
	}
	return parts, rows.Err()
}
