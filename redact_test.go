package auth_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/insigner/auth"
)

// loggedError returns what the log says about a store that fails with text when
// it is asked about key.
func loggedError(t *testing.T, scheme auth.Scheme, key, text string) string {
	t.Helper()
	logger, out := captureLog()
	a := auth.New(failingStore(errors.New(text)), &auth.Options{Scheme: scheme, Logger: logger})
	if _, err := a.Verify(t.Context(), key); !errors.Is(err, auth.ErrStoreUnavailable) {
		t.Fatalf("Verify: %v, want %v", err, auth.ErrStoreUnavailable)
	}
	lines := out.lines(t)
	if len(lines) != 1 {
		t.Fatalf("%d log lines, want 1", len(lines))
	}
	logged, ok := lines[0]["error"].(string)
	if !ok {
		t.Fatalf("the log line has no error: %v", lines[0])
	}
	return logged
}

// operatorTexts are error texts without a key or a hash. Those of pgx v5.12, of
// modernc.org/sqlite v1.62 and of package net are copied from these packages.
var operatorTexts = []string{
	// pgx: sockets of managed databases, addresses, hosts, DSNs.
	"failed to connect to `user=api database=keys`: " +
		"/cloudsql/insigner-production-364711:europe-west1:api-keys-primary-instance/.s.PGSQL.5432 " +
		"(/cloudsql/insigner-production-364711:europe-west1:api-keys-primary-instance): dial error: " +
		"dial unix /cloudsql/insigner-production-364711:europe-west1:api-keys-primary-instance/.s.PGSQL.5432:" +
		" connect: no such file or directory",
	"failed to connect to `user=insigner_production_api_key_store_reader " +
		"database=insigner_production_api_keys`: " +
		"/var/run/postgresql-insigner-production-eu-west-1-api-keys-primary/.s.PGSQL.5432 " +
		"(/var/run/postgresql-insigner-production-eu-west-1-api-keys-primary): dial error: timeout: context " +
		"deadline exceeded",
	"failed to connect to `user=api database=keys`: 127.0.0.1:5432 (127.0.0.1): dial error: dial tcp " +
		"127.0.0.1:5432: connect: connection refused",
	"failed to connect to `user=api database=keys`:\n\t[fe80::1cc0:3e8c:119f:c2e1%eth0]:5432 " +
		"(fe80::1cc0:3e8c:119f:c2e1%eth0): dial error: timeout: context deadline exceeded" +
		"\n\t[2001:db8:85a3:8d3:1319:8a2e:370:7348]:5432 (2001:db8:85a3:8d3:1319:8a2e:370:7348): dial error: " +
		"timeout: context deadline exceeded",
	"failed to connect to `user=api database=keys`:\n\thostname resolving error: lookup " +
		"keys-production-primary-0123456789abcdef0123456789abcdef0123456.invalid " +
		"on 10.255.255.53:53: dial udp 10.255.255.53:53: i/o timeout",
	"failed to connect to `user=api database=keys`: 10.0.0.7:5432 " +
		"(insigner-prod-keys-0123456789.cluster-c9akciq32rgh.eu-central-1.rds.amazonaws.com): " +
		"tls error: tls: failed to verify certificate: x509: certificate is valid for " +
		"insigner-prod-keys-0123456789-writer-endpoint-internal-only, not keys",
	"failed to connect to `user=api database=keys`: 10.0.0.7:5432 (keys): server error: FATAL: password " +
		"authentication failed for user " +
		`"insigner_production_api_key_store_reader_eu_west_1" (SQLSTATE 28P01)`,
	"cannot parse `postgres://api:xxxxx@localhost:port/keys?sslmode=verify-full&application_name=insigner" +
		"-production-api-key-store-0123456789`: invalid port",
	"cannot parse `host=/cloudsql/insigner-production-364711:europe-west1:api-keys-primary-instance " +
		"sslmode=bogus password=xxxxx`: failed to configure TLS (sslmode is invalid)",

	// pgx: errors of the server and of the driver.
	`ERROR: relation "api_keys" does not exist (SQLSTATE 42P01)`,
	`ERROR: cached plan must not change result type (SQLSTATE 0A000)`,
	`ERROR: duplicate key value violates unique constraint ` +
		`"api_keys_owner_created_at_id_where_revoked_at_is_null_idx" (SQLSTATE 23505)`,
	`ERROR: column "hash" is of type bytea but expression is of type text (SQLSTATE 42804)`,
	`ERROR: invalid input syntax for type bytea: "\xda01" (SQLSTATE 22P02)`,
	`FATAL: remaining connection slots are reserved for roles with the SUPERUSER attribute (SQLSTATE 53300)`,
	`ERROR: prepared statement "stmtcache_6f3ab31e42cb5ac78f5a9d3b3d70a8e41c0df8fbc5c2ba0e" does not ` +
		`exist (SQLSTATE 26000)`,
	`can't scan into dest[7] (col: expires_at): cannot scan timestamptz (OID 1184) in binary format into ` +
		`*time.Time`,
	`failed to encode args[0]: unable to encode []byte{0xda, 0xb1, 0xa8} into binary format for uuid ` +
		`(OID 2950): cannot find encode plan`,
	"timeout: context already done: context deadline exceeded",
	"conn closed",
	"FATAL: la base de données « clés_de_production » n'existe pas (SQLSTATE 3D000)",

	// SQLite.
	"unable to open database file (14)",
	"unable to open database file: /var/lib/insigner-production/api_keys_0123456789abcdef0123456789abcdef" +
		"0123456789.db: no such file or directory (14)",
	"database is locked (5) (SQLITE_BUSY)",
	"SQL logic error: no such table: api_keys (1)",
	"constraint failed: UNIQUE constraint failed: api_keys.hash (2067)",
	"file is not a database (26)",
	"sql: database is closed",

	// net, net/http and DNS.
	"dial tcp [fe80::1cc0:3e8c:119f:c2e1%eth0]:5432: connect: connection timed out",
	"dial tcp [100::1]:5432: i/o timeout",
	"dial unix /var/run/insigner-production-eu-west-1-api-keys-primary/insigner-production-eu-west-1-api-" +
		"keys-primary/.s.PGSQL.5432: connect: invalid argument",
	"read tcp 10.84.12.7:51514->10.84.200.3:5432: read: connection reset by peer",
	"lookup insigner-prod-keys-0123456789.cluster-c9akciq32rgh.eu-central-1.rds.amazonaws.com on " +
		"10.255.255.53:53: no such host",
	"lookup insigner-production-eu-west-1-api-keys-primary-0123456789ab.postgres.database.azure.com: no such host",
	`Get "https://keys.example.com/v1/keys?tenant=insigner-production-eu-west-1-customer-0123456789&field` +
		`s=id%2Chint%2Cname%2Cowner%2Cscopes": EOF`,
	`Get "https://keys.example.com/v1/projects/insigner-production-364711/locations/europe-west1/keys/4b6` +
		`e9c0a-3e7f-5a1b-2c3d-5f0c3c3e8d9d": context deadline exceeded`,

	// What else an operator looks for.
	"request id 5f0c3c3e-8d9d-4b6e-9c0a-3e7f5a1b2c3d",
	"traceparent 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	"certificate fingerprint 9B:11:0F:8E:5C:28:4B:5B:0B:0E:23:6E:2B:6E:13:7C:2F:3A:AF:AB:39:12:EC:B8:65:F" +
		"8:3F:D7:6B:3A:4B:F2",
	"commit 3e7f5a1b2c3d4b6e9c0a8d9d5f0c3c3e4b6e9c0a",
	"panic: runtime error: invalid memory address or nil pointer dereference\n\tgoroutine 18 " +
		"[running]:\n\tmain.(*store).Lookup(0xc0000140a8, {0x7f3c2a, 0xc00011e000})",
	"délai dépassé \u2028 \xff",
	"",
}

func TestLogKeepsWhatOperatorsNeed(t *testing.T) {
	for _, text := range operatorTexts {
		if got := loggedError(t, auth.Scheme{}, goodKey, text); got != string([]rune(text)) {
			t.Errorf("logged as %q,\nwant unchanged %q", got, text)
		}
	}
	// Nor does another prefix change that, though it starts words in them.
	for _, prefix := range []string{"_", "insigner_", "keys-production-primary-0_", "api_keys_"} {
		scheme := auth.Scheme{Prefix: prefix}
		for _, text := range operatorTexts {
			if got := loggedError(t, scheme, prefix+goodKey[4:], text); got != string([]rune(text)) {
				t.Errorf("prefix %s: logged as %q,\nwant unchanged %q", prefix, got, text)
			}
		}
	}
}

// TestLogKeepsParts: what is less or more than a whole key or hash stays.
func TestLogKeepsParts(t *testing.T) {
	hex := goodHash.String()
	b64 := base64.StdEncoding.EncodeToString(goodHash[:])
	other := strings.Repeat("A", 44)
	var numbers []string
	for _, b := range goodHash[:31] {
		numbers = append(numbers, strconv.Itoa(int(b)))
	}
	for _, text := range []string{
		hex[:62], hex[:63], hex[:43], hex[1:], hex[:32], strings.ToUpper(hex[:62]),
		`\x` + hex[:62], "0x" + hex[:62],
		b64[:42], strings.Join(numbers, " "), strings.Join(numbers, ","),
		goodKey[:47], goodKey[1:], "isk_…U1v2", "isk_", "isk_A1b2",
		"isk_" + other[1:], "isk_" + other + "A", "isk_" + other + "-x", "isk_" + other + "_x",
		"risk_" + other, "disk_" + other, "-isk_" + other, "_isk_" + other, "ISK_" + other,
		strings.Repeat("0123456789abcdef", 4)[:63], strings.Repeat("0123456789abcdef", 4) + "0", // not 64 digits
		strings.Repeat("0123456789abcdef", 8),             // a SHA-512
		"x" + strings.Repeat("0123456789abcdef", 4),       // a longer word
		strings.Repeat("0123456789abcdef", 4) + "ghijklm", // a longer word
		strings.Repeat("0123456789abcdef-", 4),
		strings.Repeat("0", 100000),
		strings.Repeat(`\`, 100000),
		strings.Repeat(" 1", 100000),
	} {
		text = "query: " + text + " failed"
		if got := loggedError(t, auth.Scheme{}, goodKey, text); got != text {
			t.Errorf("%.100q is logged as %.100q", text, got)
		}
	}
}

// each spells each byte of hash by format.
func each(hash auth.Hash, format, sep string) string {
	var list []string
	for _, b := range hash {
		list = append(list, fmt.Sprintf(format, b))
	}
	return strings.Join(list, sep)
}

func TestLogHidesKeyAndHash(t *testing.T) {
	h := goodHash
	hex := h.String()
	other := "isk_" + strings.Repeat("A", 44)
	otherHex := strings.Repeat("0123456789abcdef", 4)
	numbers, err := json.Marshal([32]byte(h))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{
		// The key.
		{goodKey, "[key]"},
		{"a" + goodKey + "b", "a[key]b"},
		{goodKey + goodKey, "[key][key]"},
		{goodKey + "," + goodKey, "[key],[key]"},
		{fmt.Sprintf("%q", goodKey), `"[key]"`},
		{url.QueryEscape(goodKey), "[key]"},
		{url.QueryEscape(goodKey) + "%0A", "[key]%0A"},
		{"Bearer " + goodKey + "\n", "Bearer [key]\n"},
		{"Bearer%20" + goodKey, "Bearer%20[key]"},
		{fmt.Sprintf("%x", goodKey), "[key]"},
		{fmt.Sprintf("% X", goodKey), "[key]"},
		{fmt.Sprint([]byte(goodKey)), "[[key]]"},
		{base64.StdEncoding.EncodeToString([]byte(goodKey)), "[key]"},
		{base64.StdEncoding.EncodeToString([]byte(goodKey + ":")), "[key]Og=="},

		// The hash, as text.
		{hex, "[hash]"},
		{strings.ToUpper(hex), "[hash]"},
		{hex[:32] + strings.ToUpper(hex[32:]), "[hash]"},
		{"a" + hex + "b", "a[hash]b"},
		{hex + hex, "[hash][hash]"},
		{fmt.Sprint(h), "[hash]"},
		{fmt.Sprintf("%x %X %v %d %#v %q", h, h, h, h, h, h), "[hash] [hash] [hash] [hash] [hash] [hash]"},
		{fmt.Sprintf("%x", hex), "[hash]"},
		{fmt.Sprint([]byte(hex)), "[[hash]]"},
		{`\x` + hex, `\x[hash]`},
		{"0x" + hex, "0x[hash]"},
		{"X'" + hex + "'", "X'[hash]'"},
		{fmt.Sprintf("SELECT … [%v %s]: refused", h, goodKey), "SELECT … [[hash] [key]]: refused"},

		// The hash, as bytes.
		{string(h[:]), "[hash]"},
		{fmt.Sprintf("%x %X", h[:], h[:]), "[hash] [hash]"},
		{fmt.Sprintf("% x", h[:]), "[hash]"},
		{fmt.Sprintf("%q", h[:]), `"[hash]"`},
		{fmt.Sprintf("%+q", h[:]), `"[hash]"`},
		{fmt.Sprintf("%#q", h[:]), `"[hash]"`},
		{fmt.Sprint(h[:]), "[[hash]]"},
		{fmt.Sprintf("%c", h[:]), "[[hash]]"},
		{fmt.Sprintf("%U", h[:]), "[U+[hash]]"},
		{fmt.Sprintf("%#v", h[:]), "[]byte{[hash]}"},
		{string(numbers), "[[hash]]"},
		{each(h, "%%%02X", ""), "[hash]"},
		{each(h, "%02x", ":"), "[hash]"},
		{each(h, "%02x", "\n"), "[hash]"},
		{each(h, "%02x", "-"), "[hash]"},
		{each(h, `\%03o`, ""), `[hash]`},
		{each(h, `\x%02x`, ""), `[hash]`},
		{each(h, `\\x%02x`, ""), `[hash]`},
		{each(h, `\u%04x`, ""), `[hash]`},
		{each(h, `\U%08x`, ""), `[hash]`},
		{each(h, "%03d", " "), "[hash]"},
		{each(h, "%d", "."), "[hash]"},
		{each(h, "%d", ", "), "[hash]"},
		{each(h, "%d", "\t"), "[hash]"},
		{each(h, "%08b", " "), "[hash]"},
		{each(h, "%#b", ", "), "[hash]"},
		{each(h, "%#x", " "), "[hash]"},
		{each(h, "%#x", ", "), "[hash]"},
		{each(h, "%#o", ","), "[hash]"},
		{each(h, "%O", ","), "[hash]"},
		{base64.StdEncoding.EncodeToString(h[:]), "[hash]="},
		{base64.URLEncoding.EncodeToString(h[:]), "[hash]="},
		{base64.RawURLEncoding.EncodeToString(h[:]), "[hash]"},
		{base64.StdEncoding.EncodeToString([]byte(hex)), "[hash]=="},
		{url.QueryEscape(base64.StdEncoding.EncodeToString(h[:])), "[hash]%3D"},
		{url.QueryEscape(base64.URLEncoding.EncodeToString(h[:])), "[hash]%3D"},

		// Another whole key, with everything that may stand between two.
		{other, "[key]"},
		{other + "," + other, "[key],[key]"},
		{other + " " + other, "[key] [key]"},
		{other + "\n" + other, "[key]\n[key]"},
		{other + `\n` + other, `[key]\n[key]`},
		{other + "%0A" + other, "[key]%0A[key]"},
		{other + `\u000a` + other, `[key]\u000a[key]`},
		{"\x1b[31m" + other + "\x1b[0m", "\x1b[31m[key]\x1b[0m"},
		{"\x1b[1;31m" + other + "\x1b[0m" + other, "\x1b[1;31m[key]\x1b[0m[key]"},
		{"key=" + other + "&x=1", "key=[key]&x=1"},
		{`"` + other + `"`, `"[key]"`},
		{"‘" + other + "’", "‘[key]’"},

		// Another whole hash.
		{otherHex, "[hash]"},
		{strings.ToUpper(otherHex), "[hash]"},
		{otherHex + "," + otherHex, "[hash],[hash]"},
		{otherHex + " " + otherHex, "[hash] [hash]"},
		{otherHex + "\n" + otherHex, "[hash]\n[hash]"},
		{otherHex + `\n` + otherHex, `[hash]\n[hash]`},
		{otherHex + "%0A" + otherHex, "[hash]%0A[hash]"},
		{"\x1b[31m" + otherHex + "\x1b[0m" + otherHex, "\x1b[31m[hash]\x1b[0m[hash]"},
		{`\x` + otherHex, `\x[hash]`},
		{`"\\x` + otherHex + `"`, `"\\x[hash]"`},
		{"0x" + otherHex, "0x[hash]"},
		{"key_" + otherHex, "key_[hash]"},
	} {
		text, want := "query: "+c.text+" failed", "query: "+c.want+" failed"
		if got := loggedError(t, auth.Scheme{}, goodKey, text); got != want {
			t.Errorf("%q is logged as %q, want %q", text, got, want)
		}
	}
}

// TestLogHidesEveryHash tries each verb of fmt with hashes that have something
// special.
func TestLogHidesEveryHash(t *testing.T) {
	fill := func(pattern string) (h auth.Hash) {
		for i := range h {
			h[i] = pattern[i%len(pattern)]
		}
		return h
	}
	var high, low auth.Hash
	for i := range high {
		high[i], low[i] = 0xff-byte(i), byte(i)
	}
	hashes := map[string]auth.Hash{
		"good":             goodHash,
		"not ASCII":        high,
		"control bytes":    low,
		"zero":             {},
		"UTF-8":            fill("é\u0085\u06b1€\U0001f511"),
		"replacement":      fill("\ufffd"),
		"quotes":           fill("\"'`"),
		"backslashes":      fill(`a\b`),
		"percent signs":    fill("%41+ "),
		"hex digits":       fill("deadbeef"),
		"marks":            fill("xXuU0"),
		"punctuation":      fill("-_,. []"),
		"hash of a letter": auth.SHA256(nil)("a"),
	}
	for i := range 20 {
		hashes["hash "+strconv.Itoa(i)] = auth.BLAKE2b(nil)(strconv.Itoa(i))
	}
	for name, hash := range hashes {
		scheme := auth.Scheme{Hashers: []auth.Hasher{func(string) auth.Hash { return hash }}}
		asJSON, _ := json.Marshal(string(hash[:]))
		for _, format := range []string{
			"%v", "%+v", "%#v", "%s", "%q", "%+q", "%x", "%X", "% x", "% X", "%#x", "%# x",
			"%o", "%O", "%#o", "%d", "%b", "%c", "%U",
		} {
			for _, v := range []any{
				hash, &hash, hash[:], [32]byte(hash), string(hash[:]),
				hash.String(), []byte(hash.String()), json.RawMessage(asJSON),
			} {
				text := fmt.Sprintf(format, v)
				if strings.HasPrefix(text, "%!") {
					continue // such as %d of a string
				}
				if _, ok := v.(json.RawMessage); ok && format != "%s" {
					continue // what is spelled twice
				}
				got := loggedError(t, scheme, goodKey, "query failed: "+text+" was the argument")
				if !strings.HasPrefix(got, "query failed: ") {
					t.Errorf("%s, %s of %T: %q, want its start unchanged", name, format, v, got)
				}
				if !strings.HasSuffix(got, " was the argument") {
					t.Errorf("%s, %s of %T: %q, want its end unchanged", name, format, v, got)
				}
				if !strings.Contains(got, "[hash]") {
					t.Errorf("%s, %s of %T: %q, want [hash] in it", name, format, v, got)
				}
				if len(got) > len("query failed: []byte{[hash]} was the argument")+4 {
					t.Errorf("%s, %s of %T: %q, want nothing of the hash in it", name, format, v, got)
				}
			}
		}
	}
}

// TestLogHidesKeysOfOtherShapes: those of another prefix, and those that
// AlsoAccept takes.
func TestLogHidesKeysOfOtherShapes(t *testing.T) {
	anything := auth.Scheme{AlsoAccept: func(string) bool { return true }}
	longest := strings.Repeat("0123456789.,:;/+", 32)
	uuid := "5f0c3c3e-8d9d-4b6e-9c0a-3e7f5a1b2c3d"
	dotted := "key.0123456789abcdef.0123456789abcdef.0123456789abcdef"
	spaced := `Vé"ry \old & long key, of 45 characters or so`
	for _, c := range []struct {
		scheme     auth.Scheme
		key        string
		text, want string
	}{
		{auth.Scheme{Prefix: "acme_live_"}, "acme_live_" + goodKey[4:], "acme_live_" + strings.Repeat("A", 44),
			"[key]"},
		{auth.Scheme{Prefix: "acme_live_"}, "acme_live_" + goodKey[4:], "acme_live_" + goodKey[4:], "[key]"},
		{auth.Scheme{Prefix: "_"}, "_" + goodKey[4:], "_" + strings.Repeat("A", 44), "[key]"},
		{anything, legacyKey, legacyKey, "[key]"},
		{anything, legacyKey, "a" + legacyKey + "b", "a[key]b"},
		{anything, legacyKey, fmt.Sprintf("%x", legacyKey), "[key]"},
		{anything, uuid, uuid, "[key]"},
		{anything, dotted, dotted, "[key]"},
		{anything, dotted, dotted + dotted, "[key][key]"},
		{anything, dotted, fmt.Sprint([]byte(dotted)), "[[key]]"},
		{anything, longest, longest, "[key]"},
		{anything, longest, url.QueryEscape(longest), "[key]"},
		{anything, longest, base64.StdEncoding.EncodeToString([]byte(longest)), "[key]="},
		{anything, spaced, spaced, "[key]"},
		{anything, spaced, fmt.Sprintf("%q", spaced), `"[key]"`},
		{anything, spaced, fmt.Sprintf("%+q", spaced), `"[key]"`},
		{anything, spaced, url.QueryEscape(spaced), "[key]"},
		{anything, spaced, url.PathEscape(spaced), "[key]"},

		// A short key is struck out only where it stands alone. Else a client
		// could choose what an operator reads.
		{anything, "s3cret", `"s3cret"`, `"[key]"`},
		{anything, "s3cret", "key=s3cret&x=1", "key=[key]&x=1"},
		{anything, "s3cret", "s3cret s3crets", "[key] s3crets"},
		{anything, "e", "connection refused", "connection refused"},
		{anything, "e", "e, 101 and 0x65: refused", "[key], [key] and [key]: refused"},
		{anything, "user", "`user=api database=users`", "`[key]=api database=users`"},
	} {
		text, want := "query: "+c.text+" failed", "query: "+c.want+" failed"
		if got := loggedError(t, c.scheme, c.key, text); got != want {
			t.Errorf("key %.60q: %.200q is logged as %.200q, want %q", c.key, text, got, want)
		}
	}
}

// TestLogOfAnOutageAllocatesLittle: an outage is logged for each request, so
// looking for secrets in its text must cost nothing.
func TestLogOfAnOutageAllocatesLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool drop values")
	}
	const most = 1 // for the attribute of the log record
	for _, text := range operatorTexts {
		logger := slog.New(slog.NewTextHandler(io.Discard, nil))
		a := auth.New(failingStore(errors.New(text)), &auth.Options{Logger: logger})
		ctx := context.Background()
		if got := testing.AllocsPerRun(50, func() { a.Verify(ctx, goodKey) }); got > most {
			t.Errorf("%.100q: %v allocations, want at most %d", text, got, most)
		}
	}
}

// forgeries are texts that would start a second line in a log, hide a part of
// one, or change its direction.
var forgeries = []string{
	"x\nlevel=ERROR msg=forged",
	"x\rlevel=ERROR msg=forged",
	"x\r\nlevel=ERROR msg=forged",
	"\n",
	"x\u2028forged",
	"x\u2029forged",
	"x\u0085forged",
	"x\vforged",
	"x\fforged",
	"x\x00forged",
	"x\x1b[2Kforged",
	"x\x9b2Kforged",
	"x\bforged",
	"x\x7fforged",
	"x\u202eforged",
	"x\u2066forged",
	"x\u200bforged",
	"x\ufeffforged",
	"x\xffforged",
	"x\xc3\nforged",
}

// TestNamesCannotForgeLogLines: a Record, a Decision, a Problem and a context
// print on one line, in printable characters, for all names.
func TestNamesCannotForgeLogLines(t *testing.T) {
	for _, name := range forgeries {
		check := func(what, text string) {
			for i, c := range text {
				if !strconv.IsPrint(c) || c == '\ufffd' {
					t.Errorf("%q: %s prints %q, with %q at %d", name, what, text, c, i)
					return
				}
			}
		}
		r := goodRecord()
		r.ID, r.Hint, r.Name, r.Owner = name, name, name, name
		check("Record.String", r.String())
		for _, verb := range "vsqxd" {
			check("a Record", fmt.Sprintf("%"+string(verb), r))
			check("a Record", fmt.Sprintf("%+"+string(verb), &r))
			check("a slice of Records", fmt.Sprintf("%#"+string(verb), []auth.Record{r}))
		}

		var decision auth.Decision
		a := auth.New(newStore(r), &auth.Options{OnDecision: func(_ context.Context, d auth.Decision) { decision = d }})
		if _, err := a.Verify(t.Context(), goodKey); err != nil {
			t.Fatal(err)
		}
		check("Decision.String", decision.String())
		for _, verb := range "vsqxd" {
			check("a Decision", fmt.Sprintf("%"+string(verb), decision))
			check("a Decision", fmt.Sprintf("%+"+string(verb), &decision))
		}
		check("a vouched context", fmt.Sprintf("%v", a.Vouch(t.Context(), r)))

		p := &auth.Problem{Status: 400, Title: name, Detail: name, Type: name, Instance: name, Code: name}
		check("Problem.Error", p.Error())
		check("a *Problem", fmt.Sprintf("%v", p))
		check("a wrapped *Problem", fmt.Sprintf("%v", fmt.Errorf("wrapped: %w", p)))

		var out logBuffer
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "decision", decision, "record", r, "problem", p)
		if got := strings.Count(out.String(), "\n"); got != 1 {
			t.Errorf("%q: slog prints %d lines, want 1: %q", name, got, out.String())
		}
	}
}

// TestPrintableNamesStay: names that are harmless are printed as they are.
func TestPrintableNamesStay(t *testing.T) {
	for _, name := range []string{"Production Backend", "Größe 日本 🔑", `C:\keys "old"`, "a=b", ""} {
		r := goodRecord()
		r.ID = name
		if got, want := r.String(), name+" (isk_…U1v2)"; got != want {
			t.Errorf("Record.String: %q, want %q", got, want)
		}
		p := &auth.Problem{Status: 400, Detail: name}
		want := "400: " + name
		if name == "" {
			want = "400"
		}
		if got := p.Error(); got != want {
			t.Errorf("Problem.Error: %q, want %q", got, want)
		}
	}
}

// TestDecisionPairsCannotBeForged: a name cannot add a pair to what a Decision
// prints.
func TestDecisionPairsCannotBeForged(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"plain", "key.name=plain"},
		{"two words", `key.name="two words"`},
		{"x outcome=OK", `key.name="x outcome=OK"`},
		{`x" outcome="OK`, `key.name="x\" outcome=\"OK"`},
		{"a=b", `key.name="a=b"`},
		{"", `key.name=""`},
		{"x\ny", `key.name="x\ny"`},
	} {
		r := goodRecord()
		r.Name = c.name
		var decision auth.Decision
		a := auth.New(newStore(r), &auth.Options{OnDecision: func(_ context.Context, d auth.Decision) { decision = d }})
		if _, err := a.Verify(t.Context(), goodKey); err != nil {
			t.Fatal(err)
		}
		got := decision.String()
		if !strings.Contains(got, " "+c.want+" key.owner=org_1") {
			t.Errorf("%q: %s, want %s in it", c.name, got, c.want)
		}
	}
}
