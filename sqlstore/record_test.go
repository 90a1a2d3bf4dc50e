package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

var zone = time.FixedZone("odd", 5*3600+1800+7)

func date(year int) time.Time { return time.Date(year, 2, 3, 4, 5, 6, 123456000, zone) }

const oddText = "a,b\"'`\\\x01\u2028\U0001F511é <&>{}[]"

// Each record comes back as it was inserted.
func TestRecordRoundTrip(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		for name, f := range map[string]func(*auth.Record){
			"plain": func(*auth.Record) {},
			"full": func(r *auth.Record) {
				r.Hint, r.CreatedBy, r.UpdatedBy = "isk_…U1v2", "me", "you"
				r.RotatedFrom, r.RotatedTo, r.Chain, r.Revision = "key_a", "key_b", "key_c", math.MaxInt64
				r.UpdatedAt, r.ExpiresAt, r.DisabledAt = date(2030), date(2031), date(2032)
				r.RevokedAt, r.LastUsedAt = date(2033), date(2034)
			},
			"nil scopes":     func(r *auth.Record) { r.Scopes = nil },
			"no scopes":      func(r *auth.Record) { r.Scopes = auth.Scopes{} },
			"odd scopes":     func(r *auth.Record) { r.Scopes = auth.Scopes{"", oddText, "\x00", "*", ""} },
			"nil metadata":   func(r *auth.Record) { r.Metadata = nil },
			"no metadata":    func(r *auth.Record) { r.Metadata = map[string]string{} },
			"odd metadata":   func(r *auth.Record) { r.Metadata = map[string]string{"": "", oddText: oddText, "\x00": "a\x00b"} },
			"large metadata": func(r *auth.Record) { r.Metadata = map[string]string{"k": strings.Repeat("é\x00", 100000)} },
			"odd text": func(r *auth.Record) {
				r.ID, r.Hint, r.Name, r.Owner, r.CreatedBy = oddText, oddText, oddText, oddText, oddText
			},
			"no name or owner": func(r *auth.Record) { r.Name, r.Owner = "", "" },
			"year 1":           func(r *auth.Record) { r.CreatedAt, r.ExpiresAt = date(1), time.Time{}.Add(time.Microsecond) },
			"zero creation":    func(r *auth.Record) { r.CreatedAt = time.Time{} },
			"no update":        func(r *auth.Record) { r.UpdatedAt, r.UpdatedBy, r.Revision = time.Time{}, "", 0 },
			"year 9999":        func(r *auth.Record) { r.CreatedAt, r.ExpiresAt, r.LastUsedAt = date(9999), date(9999), date(9999) },
			"last microsecond": func(r *auth.Record) { r.ExpiresAt = time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC) },
			"before 1970":      func(r *auth.Record) { r.CreatedAt, r.RevokedAt = date(1969), time.Unix(0, -1000) },
			"zero hash":        func(r *auth.Record) { r.Hash = auth.Hash{} },
		} {
			r := newRecord()
			f(r)
			if err := s.Insert(t.Context(), r.Clone()); err != nil {
				t.Errorf("%s: Insert: %v", name, err)
				continue
			}
			for _, at := range []*time.Time{&r.CreatedAt, &r.UpdatedAt, &r.ExpiresAt, &r.DisabledAt, &r.RevokedAt, &r.LastUsedAt} {
				*at = at.UTC()
			}
			wantStored(t, s, r)
			got, err := s.Lookup(t.Context(), r.Hash)
			if err != nil {
				t.Errorf("%s: Lookup: %v", name, err)
			} else if got.ID != r.ID {
				t.Errorf("%s: Lookup returns the record %q, want %q", name, got.ID, r.ID)
			}
		}
	})
}

// What cannot be stored as it is, is refused.
func TestRecordRefused(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		for name, f := range map[string]func(*auth.Record){
			"no ID":                  func(r *auth.Record) { r.ID = "" },
			"ID with NUL":            func(r *auth.Record) { r.ID = "a\x00b" },
			"name with NUL":          func(r *auth.Record) { r.Name = "a\x00b" },
			"owner not UTF-8":        func(r *auth.Record) { r.Owner = "a\xff" },
			"chain not UTF-8":        func(r *auth.Record) { r.Chain = "a\xff" },
			"scope not UTF-8":        func(r *auth.Record) { r.Scopes = auth.Scopes{"a\xff"} },
			"metadata not UTF-8":     func(r *auth.Record) { r.Metadata = map[string]string{"a": "\xff"} },
			"metadata key not UTF-8": func(r *auth.Record) { r.Metadata = map[string]string{"\xff": "a"} },
			"too late":               func(r *auth.Record) { r.ExpiresAt = date(10000) },
			"too late in UTC only":   func(r *auth.Record) { r.ExpiresAt = time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -18000)) },
			"far too late":           func(r *auth.Record) { r.ExpiresAt = time.Unix(math.MaxInt64/2, 0) },
			"too early":              func(r *auth.Record) { r.RevokedAt = date(0) },
			"created too late":       func(r *auth.Record) { r.CreatedAt = date(300000) },
			"updated too late":       func(r *auth.Record) { r.UpdatedAt = date(10000) },
			"disabled too late":      func(r *auth.Record) { r.DisabledAt = date(10000) },
			"nearly never":           func(r *auth.Record) { r.ExpiresAt = time.Time{}.Add(time.Nanosecond) },
		} {
			r := newRecord()
			f(r)
			hash := r.Hash
			err := s.Insert(t.Context(), r)
			if err == nil {
				t.Errorf("%s: Insert succeeds", name)
			}
			if errors.Is(err, keyring.ErrExists) {
				t.Errorf("%s: %v, want an error that does not match ErrExists", name, err)
			}
			wantMissing(t, s, hash)
		}
	})
}

func TestTimeIsCutToMicroseconds(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		r := newRecord()
		r.CreatedAt = time.Date(2026, 1, 2, 3, 4, 5, 999999999, time.UTC)
		r.ExpiresAt = time.Date(1926, 1, 2, 3, 4, 5, 999999999, time.UTC)
		must(t, s.Insert(t.Context(), r.Clone()))
		r.CreatedAt, r.ExpiresAt = r.CreatedAt.Truncate(time.Microsecond), r.ExpiresAt.Truncate(time.Microsecond)
		wantStored(t, s, r)
	})
}

// withoutChecks returns where rows can be written that the schema refuses.
func withoutChecks(t *testing.T, db *sql.DB) *sql.Conn {
	t.Helper()
	conn, err := db.Conn(t.Context())
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	if !onPostgres(t) {
		execute(t, conn, `PRAGMA ignore_check_constraints = 1;
			DROP TRIGGER api_keys_check_insert; DROP TRIGGER api_keys_check_update; DROP TRIGGER api_keys_revise`)
		return conn
	}
	execute(t, conn, "SET insigner.by = 'by:somebody'") // else a trigger sets updated_at
	execute(t, conn, `DO $$ DECLARE c name; BEGIN
		FOR c IN SELECT conname FROM pg_constraint WHERE conrelid = 'api_keys'::regclass AND contype = 'c' LOOP
			EXECUTE format('ALTER TABLE api_keys DROP CONSTRAINT %I', c);
		END LOOP; END $$`)
	return conn
}

// unreadable is what SQL can set although no record has it, by the database.
// The schema refuses it, unless passes is set.
func unreadable(t *testing.T) []struct {
	set    string
	passes bool
} {
	type edits = []struct {
		set    string
		passes bool
	}
	both := edits{
		{"scopes = ''", false}, {"scopes = '*'", false}, {`scopes = '"*"'`, false}, {`scopes = '{"a":"*"}'`, false},
		{`scopes = '["*"'`, false}, {`scopes = '["*"] x'`, false}, {`scopes = 'documents.read'`, false},
		{"scopes = 'null'", false}, {`scopes = '[["*"]]'`, false}, {`scopes = '[null]'`, false}, {`scopes = '[1]'`, false},
		{"metadata = '[]'", false}, {"metadata = ''", false}, {"metadata = 'null'", false},
		{`metadata = '{"a":1}'`, false}, {`metadata = '{"a":null}'`, false},
	}
	if onPostgres(t) {
		return append(both, edits{
			{"expires_at = 'infinity'", false}, {"expires_at = '-infinity'", false}, {"revoked_at = '-infinity'", false},
			{"disabled_at = 'infinity'", false}, {"updated_at = 'infinity', revision = revision + 1", true}, {"last_used_at = 'infinity'", false},
			{"expires_at = '0001-01-01 00:00:00+00'", false}, {"revoked_at = '0001-01-01 00:00:00+00'", false},
			{"expires_at = '10000-01-01 00:00:00+00'", false}, {"expires_at = '0044-03-15 00:00:00+00 BC'", false},
			{"created_at = 'infinity'", false}, {"created_at = '-infinity'", false},
			{"created_at = '294276-12-31 23:59:59+00'", false}, {"hash = '\\x00'", false},
		}...)
	}
	return append(both, edits{
		{"expires_at = -62135596800000000", false}, {"revoked_at = -62135596800000000", false},
		{"disabled_at = -62135596800000000", false}, {"updated_at = -62135596800000000, revision = revision + 1", false},
		{"expires_at = 253402300800000000", false}, {"last_used_at = 253402300800000000", false},
		{"created_at = 9223372036854775807", false}, {"created_at = -9223372036854775808", false},
		{"hash = x'00'", false}, {"name = CAST(x'ff' AS TEXT)", true}, {"name = 'a' || char(0)", true},
		{"scopes = CAST(x'5b22ff225d' AS TEXT)", true},
	}...)
}

// A row that somebody edited so that it cannot be read is unknown. It is never
// a key that may do more, or that lasts longer.
func TestRecordUnreadable(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		conn := withoutChecks(t, db)
		for _, edit := range unreadable(t) {
			r := inserted(t, s)
			execute(t, conn, "UPDATE api_keys SET "+edit.set+" WHERE id = $1", r.ID)
			calls := map[string]func() (*auth.Record, error){
				"Get":    func() (*auth.Record, error) { return s.Get(t.Context(), r.ID) },
				"Lookup": func() (*auth.Record, error) { return s.Lookup(t.Context(), r.Hash) },
			}
			if strings.HasPrefix(edit.set, "hash") {
				delete(calls, "Lookup")
			}
			for name, call := range calls {
				got, err := call()
				if got != nil {
					t.Errorf("%s: %s returns %+v, want nil", edit.set, name, fields(got))
				}
				if errors.Is(err, auth.ErrNotFound) {
					t.Errorf("%s: %s: %v, want an error that does not match ErrNotFound", edit.set, name, err)
				}
				var unread *keyring.RecordError
				if !errors.As(err, &unread) {
					t.Errorf("%s: %s: %v, want a *keyring.RecordError", edit.set, name, err)
					continue
				}
				if unread.ID != r.ID {
					t.Errorf("%s: %s: the error names %q, want %q", edit.set, name, unread.ID, r.ID)
				}
				if column, _, _ := strings.Cut(edit.set, " "); !strings.Contains(err.Error(), column) {
					t.Errorf("%s: %s: %v, want an error that names the column", edit.set, name, err)
				}
				if strings.Contains(err.Error(), "*") {
					t.Errorf("%s: %s: %v, want an error that does not quote the row", edit.set, name, err)
				}
			}
		}
	})
}

// A row that cannot be read can be deleted.
func TestRecordUnreadableDelete(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		conn := withoutChecks(t, db)
		for _, edit := range unreadable(t) {
			r := inserted(t, s)
			execute(t, conn, "UPDATE api_keys SET "+edit.set+" WHERE id = $1", r.ID)
			if err := s.Delete(t.Context(), r.ID, "somebody"); err != nil {
				t.Errorf("%s: Delete: %v", edit.set, err)
			}
		}
	})
}

func TestSchemaRefuses(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		edits := unreadable(t)
		for _, set := range []string{"id = ''", "hash = NULL", "scopes = NULL", "created_at = NULL",
			"expires_at = 'never'", "revision = 'first'"} {
			edits = append(edits, struct {
				set    string
				passes bool
			}{set, false})
		}
		for _, edit := range edits {
			r := inserted(t, s)
			_, err := db.ExecContext(context.Background(), "UPDATE api_keys SET "+edit.set+" WHERE id = $1", r.ID)
			if passes := err == nil; passes != edit.passes {
				t.Errorf("%s: %v, want it to pass: %t", edit.set, err, edit.passes)
			}
		}
	})
}
