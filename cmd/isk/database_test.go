package main

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/insigner/auth/internal/pgtest"
)

// secret is the part of the passwords of these tests that no output may have.
const secret = "s3cr3t"

// TestPasswordsAreNotPrinted gives passwords in each form, right and wrong.
func TestPasswordsAreNotPrinted(t *testing.T) {
	for _, test := range []struct {
		url  string
		code int
	}{
		{"postgres://staff:s3cr3t@127.0.0.1:1/api", exitUnavailable},
		{"postgresql://staff:s3cr3t@127.0.0.1:1/api", exitUnavailable},
		{"postgres://staff:a%40s3cr3t%2F%3F@127.0.0.1:1/api", exitUnavailable},
		{"postgres://staff@127.0.0.1:1/api?password=s3cr3t", exitUnavailable},
		{"postgres://staff@127.0.0.1:1/api?sslpassword=s3cr3t", exitUnavailable},
		{"postgres://staff:s3cr3t@127.0.0.1:1,127.0.0.1:2/api", exitUnavailable},
		{"postgres://staff:s3cr3t@no-such-host.invalid/api", exitUnavailable},
		{"postgres://staff:s3cr3t@127.0.0.1:1/api?sslmode=frob", exitUsage},
		{"postgres://staff:s3cr3t@127.0.0.1:1/api?connect_timeout=frob", exitUsage},
		{"postgres://staff:s3cr3t@127.0.0.1:1/api?sslmode=verify-full&sslrootcert=/nothing", exitUsage},
		{"postgres://staff:s3cr3t@127.0.0.1:port/api", exitUsage},
		{"postgres://staff:s3cr3t#x@127.0.0.1/api", exitUsage},
		{"postgres://staff:1#s3cr3t@127.0.0.1/api", exitUsage},
		{"postgres://staff:1/s3cr3t@127.0.0.1/api", exitUsage},
		{"postgres://staff:1?s3cr3t@127.0.0.1/api", exitUsage},
		{"postgres://staff:a@1/s3cr3t@127.0.0.1/api", exitUsage},
		{"postgres://staff:a@1?s3cr3t@127.0.0.1/api", exitUsage},
		{"postgres://staff:a@1?s3cr3t=x@127.0.0.1/api", exitUsage},
		{"postgres://staff:s3cr3t@127.0.0.1:1/a%40b?application_name=a%40b", exitUnavailable},
		{"postgres://staff:s3cr3t%@127.0.0.1/api", exitUsage},
		{"postgres://staff:s3cr3t%zz@127.0.0.1/api", exitUsage},
		{"postgres://staff:s3 cr3t s3cr3t@127.0.0.1/api", exitUsage},
		{"host=127.0.0.1 user=staff password=s3cr3t", exitUsage},
		{"host=127.0.0.1 user=staff password='it is s3cr3t'", exitUsage},
		{"mysql://staff:s3cr3t@127.0.0.1/api", exitUsage},
		{"sqlite://staff:s3cr3t@127.0.0.1/api", exitUsage},
		{"sqlite:s3cr3t.db", exitUsage},
		{"s3cr3t", exitUsage},
	} {
		file := filepath.Join(t.TempDir(), "url")
		if err := os.WriteFile(file, []byte(test.url+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, way := range []struct {
			env  env
			args []string
		}{
			{env{envDatabase: test.url}, []string{"list"}},
			{env{envDatabase: test.url}, []string{"list", "--json"}},
			{env{envDatabase: test.url}, []string{"migrate"}},
			{env{envDatabase: test.url}, []string{"check"}},
			{env{}, []string{"list", "--database-file", file}},
			{env{}, []string{"list", "--database", test.url}},
			{env{}, []string{"list", "--database", test.url, "--json"}},
		} {
			r := way.env.run(t, way.args...)
			if r.code != test.code {
				t.Errorf("%s, %v: exit code %d, want %d: %s", test.url, way.args, r.code, test.code, r.stderr)
			}
			if strings.Contains(r.stdout+r.stderr, secret) || strings.Contains(r.stderr, "s3 cr3t") {
				t.Errorf("%s, %v: the password is printed: %s", test.url, way.args, r.stderr)
			}
			if r.stdout != "" {
				t.Errorf("%s, %v: there is something on the standard output: %s", test.url, way.args, r.stdout)
			}
		}
	}
}

func TestPasswordInAFlag(t *testing.T) {
	const warning = "a password in --database stands in the history"
	for url, warns := range map[string]bool{
		"postgres://staff:s3cr3t@127.0.0.1:1/api":           true,
		"postgres://staff@127.0.0.1:1/api?password=s3cr3t":  true,
		"postgres://staff:@127.0.0.1:1/api?password=s3cr3t": true,
		"postgres://staff:pw@127.0.0.1:1/api":               true,
		"postgres://staff@127.0.0.1:1/api":                  false,
	} {
		r := env{}.run(t, "list", "--database", url)
		if strings.Contains(r.stderr, warning) != warns {
			t.Errorf("--database %s: a warning %v, want %v: %s", url, !warns, warns, r.stderr)
		}
		r = env{}.run(t, "list", "--database", url, "--json")
		if strings.Contains(r.stderr, warning) != warns {
			t.Errorf("--database %s --json: a warning %v, want %v: %s", url, !warns, warns, r.stderr)
		}
		if strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("--database %s --json: not one object: %s", url, r.stderr)
		}
		if r := (env{envDatabase: url}).run(t, "list"); strings.Contains(r.stderr, warning) {
			t.Errorf("%s: a warning for the environment", url)
		}
	}
}

func TestHelpHasNoURL(t *testing.T) {
	e := env{envDatabase: "postgres://staff:s3cr3t@127.0.0.1:1/api"}
	for _, args := range [][]string{{}, {"help"}, {"help", "--json"}, {"list", "--help"}, {"help", "list"}, {"completion", "bash"},
		{"__complete", "list", "--database", ""}, {"__complete", "list", "--"}, {"__complete", "show", ""}} {
		r := e.must(t, args...)
		if strings.Contains(r.stdout+r.stderr, secret) || strings.Contains(r.stdout+r.stderr, "127.0.0.1") {
			t.Errorf("isk %v prints the URL of the environment", args)
		}
	}
}

func TestDatabaseFile(t *testing.T) {
	database := sqliteURL(t)
	env{envDatabase: database}.must(t, "migrate")
	for name, content := range map[string]string{
		"plain":             database,
		"line break":        database + "\n",
		"BOM and CRLF":      "\ufeff" + database + "\r\n",
		"further lines":     database + "\n# a comment\n",
		"blanks":            " " + database + " \n",
		"empty lines first": "\n\n" + database,
	} {
		file := filepath.Join(t.TempDir(), "url")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		// The flag counts, not the environment.
		e := env{envDatabase: "postgres://127.0.0.1:1/api"}
		if r := e.run(t, "list", "--database-file", file); r.code != exitDone {
			t.Errorf("%s: exit code %d: %s", name, r.code, r.stderr)
		}
		if r := e.run(t, "list", "--database-file", file, "--database", database); r.code != exitUsage {
			t.Errorf("%s: exit code %d with both flags, want 2", name, r.code)
		}
	}
	if r := (env{}).run(t, "list", "--database-file", "/nothing/at/all"); r.code != exitUsage {
		t.Errorf("exit code %d for a file that is not there, want 2", r.code)
	}
}

func TestSQLitePaths(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a b.db", "100%.db", "ä#?.db"} {
		e := env{envDatabase: fileURL(filepath.Join(dir, name))}
		e.must(t, "migrate")
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		e.must(t, "list")
	}
	for _, url := range []string{"sqlite://keys.db", "sqlite:keys.db", "sqlite://", "sqlite:///a?mode=ro"} {
		if r := (env{envDatabase: url}).run(t, "migrate"); r.code != exitUsage {
			t.Errorf("%s: exit code %d, want 2", url, r.code)
		}
	}
}

// TestPasswordFile connects to a server that asks for a password.
func TestPasswordFile(t *testing.T) {
	dir := t.TempDir()
	hba := filepath.Join(dir, "pg_hba.conf")
	if err := os.WriteFile(hba, []byte("host all postgres 127.0.0.1/32 trust\nlocal all postgres trust\n"+
		"host all staff 127.0.0.1/32 scram-sha-256\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for d := dir; d != filepath.Dir(d) && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { // the server has another account
			t.Fatal(err)
		}
	}
	server := pgtest.Start(t, "hba_file="+hba)
	err := execute(server.URL("postgres"), `CREATE ROLE staff LOGIN PASSWORD 's3cr3t@/#?'; GRANT ALL ON SCHEMA public TO staff`)
	if err != nil {
		t.Fatal(err)
	}
	url := "postgres://staff@" + server.Addr() + "/postgres"
	host, port, _ := strings.Cut(server.Addr(), ":")
	passwords := filepath.Join(dir, "pgpass")
	if err := os.WriteFile(passwords, []byte(host+":"+port+":*:staff:s3cr3t@/#?\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGPASSFILE", filepath.Join(dir, "nothing"))
	if r := (env{envDatabase: url}).run(t, "migrate"); r.code != exitUnavailable {
		t.Errorf("without a password: exit code %d, want 4: %s", r.code, r.stderr)
	}
	for _, wrong := range []string{"wr0ngw0rd", "pw"} {
		r := env{envDatabase: strings.Replace(url, "@", ":"+wrong+"@", 1)}.run(t, "migrate")
		if r.code != exitUnavailable {
			t.Errorf("with a wrong password: exit code %d, want 4: %s", r.code, r.stderr)
		}
		if strings.Contains(r.stderr, ":"+wrong) || strings.Contains(r.stderr, "wr0ng") {
			t.Errorf("the wrong password is printed: %s", r.stderr)
		}
	}
	if r := (env{envDatabase: strings.Replace(url, "@", ":s3cr3t%40%2F%23%3F@", 1)}).run(t, "migrate"); r.code != exitDone {
		t.Errorf("with the password escaped in the URL: exit code %d: %s", r.code, r.stderr)
	}
	t.Setenv("PGPASSFILE", passwords)
	e := env{envDatabase: url}
	e.must(t, "list")
	if r := (env{}).run(t, "list", "--database", url); r.code != exitDone || r.stderr != "" {
		t.Errorf("--database and PGPASSFILE: exit code %d: %s", r.code, r.stderr)
	}
	server.Stop()
	for _, args := range [][]string{{"list"}, {"show", "x"}, {"create", "--name", "x", "--owner", "x", "--scope", "x"}, {"events"},
		{"logs"}, {"check"}, {"migrate"}, {"revoke", "x"}, {"purge", "--dead-for", "1d"}} {
		r := e.run(t, append(args, "--json")...)
		if r.code != exitUnavailable {
			t.Errorf("isk %v without a server: exit code %d, want 4: %s", args, r.code, r.stderr)
		}
		if !strings.Contains(r.stderr, `"code":"STORE_UNAVAILABLE"`) {
			t.Errorf("isk %v without a server: %s", args, r.stderr)
		}
		if strings.Contains(r.stderr, secret) {
			t.Errorf("isk %v prints the password of PGPASSFILE", args)
		}
	}
}

// TestRights runs the commands with the rights that docs/command.md names.
func TestRights(t *testing.T) {
	owner := env{envDatabase: pgtest.DSN(t)}
	owner.must(t, "migrate")
	id := createKey(t, owner)
	err := execute(owner[envDatabase], `DO $$ BEGIN CREATE ROLE isk_staff LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
		GRANT SELECT, INSERT, UPDATE, DELETE ON api_keys TO isk_staff;
		GRANT SELECT ON api_keys_events, api_logs, api_keys_goose, api_logs_goose TO isk_staff`)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(owner[envDatabase])
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User("isk_staff")
	e := env{envDatabase: u.String()}
	for _, args := range [][]string{{"list"}, {"show", id}, {"edit", id, "--name", "y"}, {"events", id}, {"logs"}, {"check"},
		{"rotate", id},
		{"create", "--name", "x", "--owner", "acme", "--scope", "a.read"}, {"revoke", "--made", id, "--yes"},
		{"purge", "--dead-for", "1ns", "--yes"}, {"delete", createKey(t, e), "--yes"}} {
		e.must(t, args...)
	}
	if err := execute(owner[envDatabase], `REVOKE SELECT ON api_keys FROM isk_staff`); err != nil {
		t.Fatal(err)
	}
	if r := e.run(t, "list"); r.code != exitUnavailable || !strings.Contains(r.stderr, "permission denied") {
		t.Errorf("without the rights: exit code %d: %s", r.code, r.stderr)
	}
	// The role is that of the server, so it goes with its last rights.
	if err := execute(owner[envDatabase], `DROP OWNED BY isk_staff; DROP ROLE isk_staff`); err != nil {
		t.Error(err)
	}
}
