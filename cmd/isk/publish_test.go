package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/fanout"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/internal/redistest"
	"github.com/insigner/auth/keyring"
	"github.com/redis/go-redis/v9"
)

const sharedSecret = "a secret that publishers and subscribers share"

// publishes returns the environment of isk publish, with a Redis that demands a
// password.
func publishes(t *testing.T, database string, args ...string) (env, *redistest.Server) {
	t.Helper()
	args = append([]string{"--user", "default", "on", ">hunter2hunter2", "~*", "&*", "+@all"}, args...)
	server := redistest.Start(t, args...)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(sharedSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := env{envDatabase: database, envSecret: file, envRedis: "redis://:hunter2hunter2@" + server.Addr()}
	e.must(t, "migrate")
	return e, server
}

// id returns the ID in the JSON that a run printed.
func (r result) id(t *testing.T) string {
	t.Helper()
	var k struct{ ID string }
	if err := json.Unmarshal([]byte(r.stdout), &k); err != nil {
		t.Fatal(err)
	}
	return k.ID
}

// A change that another run of the command makes reaches those who subscribe.
func TestPublish(t *testing.T) {
	for kind, database := range map[string]func(t *testing.T) string{
		"sqlite": sqliteURL, "postgres": func(t *testing.T) string { return pgtest.DSN(t) },
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			e, server := publishes(t, database(t))
			id := e.must(t, "create", "--name", "k", "--owner", "acme", "--scope", "a.read", "--json").id(t)

			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			ended := make(chan result, 1)
			go func() { ended <- e.runWith(ctx, "", "publish", "--lost-after", "2s") }()

			client := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: "hunter2hunter2"})
			defer client.Close()
			changes := make(chan auth.ChangeKind, 100)
			watcher := fanout.New(new(keyring.MemoryStore), fanout.NewRedis(client), &fanout.Options{
				Secret: fanout.Secret(sharedSecret), LostAfter: 2 * time.Second, Logger: slog.New(slog.DiscardHandler)})
			watch, end := context.WithCancel(t.Context())
			watched := make(chan error, 1)
			go func() { watched <- watcher.Watch(watch, func(c auth.Change) { changes <- c.Kind }) }()
			defer func() { end(); <-watched }()
			for kind := range changes {
				if kind == auth.WatchStarted {
					break
				}
			}
			e.must(t, "revoke", id, "--yes")
			for kind := range changes {
				if kind == auth.RecordChanged {
					break
				}
			}
			stop()
			r := <-ended
			if r.code != exitDone {
				t.Errorf("exit code %d after a signal, want 0: %s", r.code, r.stderr)
			}
			if r.stdout != "" {
				t.Errorf("it printed %q", r.stdout)
			}
			if !strings.Contains(r.stderr, "publishing changes") {
				t.Errorf("it logged %q", r.stderr)
			}
			if strings.Contains(r.stderr, "WARN") {
				t.Errorf("it warned, although it was only stopped: %s", r.stderr)
			}
			if strings.Contains(r.stderr, "hunter2") {
				t.Errorf("it logged the password of Redis: %s", r.stderr)
			}
			if strings.Contains(r.stderr, "a secret that") {
				t.Errorf("it logged the shared secret: %s", r.stderr)
			}
		})
	}
}

func TestPublishNotPermitted(t *testing.T) {
	t.Parallel()
	e, _ := publishes(t, sqliteURL(t), "--user", "limited", "on", ">hunter2hunter2", "~*", "&*", "+@all", "-publish")
	e[envRedis] = strings.Replace(e[envRedis], "//:", "//limited:", 1)
	r := e.run(t, "publish")
	if r.code != exitFailed {
		t.Errorf("exit code %d, want 1", r.code)
	}
	if !strings.Contains(r.stderr, "NOPERM") {
		t.Errorf("it said %q, want the reason", r.stderr)
	}
}

func TestPublishUsage(t *testing.T) {
	t.Parallel()
	e := migrated(t)
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	good := file("good", strings.Repeat("s", 32))
	for _, test := range []struct {
		redis, redisFile, secret string
		args                     []string
		want                     string
	}{
		{"redis://h", "", "", nil, "the shared secret is missing"},
		{"redis://h", "", filepath.Join(dir, "none"), nil, "no such file"},
		{"redis://h", "", file("short", strings.Repeat("s", 31)+"\r\n"), nil, "has 31 bytes"},
		{"", "", good, nil, "set ISK_REDIS_URL"},
		{"", filepath.Join(dir, "none"), good, nil, "no such file"},
		{"", file("empty", "\n"), good, nil, "set ISK_REDIS_URL"},
		{"redis://:hunter2@[bad", "", good, nil, "is no URL of Redis"},
		{"http://:hunter2@h", "", good, nil, "is no URL of Redis"},
		{"redis://:hunter2@h?nonsense=1", "", good, nil, "is no URL of Redis"},
		{"redis://:hunter2@h?addr=h2&nonsense=1", "", good, nil, "is no URL of Redis"},
		{"redis://:hunter2@h?master_name=m&nonsense=1", "", good, nil, "is no URL of Redis"},
		{"redis://h", "", good, []string{"--lost-after", "1"}, "--lost-after"},
		{"redis://h", "", good, []string{"--lost-after", "-1s"}, "--lost-after"},
		{"redis://h", "", good, []string{"--lost-after", "1ms"}, "LostAfter"},
		{"redis://h", "", good, []string{"argument"}, "argument"},
	} {
		e := env{envDatabase: e[envDatabase], envRedis: test.redis, envSecret: test.secret}
		args := append([]string{"publish"}, test.args...)
		if test.redisFile != "" {
			args = append(args, "--redis-file", test.redisFile)
		}
		r := e.run(t, args...)
		want := exitUsage
		if test.want == "LostAfter" {
			want = exitFailed
		}
		if r.code != want {
			t.Errorf("%+v: exit code %d, want %d: %s", test, r.code, want, r.stderr)
		}
		if !strings.Contains(r.stderr, test.want) {
			t.Errorf("%+v: it said %q", test, r.stderr)
		}
		if strings.Contains(r.stderr, "hunter2") {
			t.Errorf("%+v: it said the password: %s", test, r.stderr)
		}
	}
}

func TestRedisURL(t *testing.T) {
	for _, test := range []struct{ url, want string }{
		{"redis://h:6379", "*redis.Client"},
		{"rediss://u:p@h:6379/1", "*redis.Client"},
		{"redis://h:6379?addr=h2:6379&addr=h3:6379", "*redis.ClusterClient"},
		{"redis://h:26379?master_name=m&addr=h2:26379", "*redis.Client FailoverClient"},
	} {
		a := newApp(nil, nil, nil, func(name string) string { return env{envRedis: test.url}[name] })
		client, err := a.redis("")
		if err != nil {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		got := fmt.Sprintf("%T", client)
		if c, ok := client.(*redis.Client); ok && c.Options().Addr == "FailoverClient" {
			got += " " + c.Options().Addr
		}
		if got != test.want {
			t.Errorf("%s is for a %s, want a %s", test.url, got, test.want)
		}
		client.Close()
	}
}
