package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/insigner/auth/fanout"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/insigner/auth/sqlstore/sqlite"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
)

// Variables of the environment of isk publish.
const (
	envRedis  = "ISK_REDIS_URL"
	envSecret = "ISK_FANOUT_SECRET_FILE"
)

func init() { register(databaseCommands, newPublish) }

func newPublish(a *app) *cobra.Command {
	var p publishing
	c := &cobra.Command{
		Use:   "publish",
		Short: "Publish changes of keys through Redis, until it is stopped",
		Long: `Publish watches the keys, and publishes each change through Redis to the
processes that subscribe by package fanout. Run it on two machines or more, if
the instances of the API do not publish themselves.

ISK_REDIS_URL, or the first line of the file --redis-file, names the Redis:
  redis://user:password@host:6379, or rediss:// with TLS
  redis://host:6379?addr=host2:6379&addr=host3:6379 for a cluster
  redis://host:26379?master_name=name&addr=host2:26379 for sentinels

ISK_FANOUT_SECRET_FILE, or --secret-file, names a file with the secret that all
publishers and subscribers share, of 32 bytes or more. A line break at its end
does not count.

It logs to the standard error, with --json as JSON. SIGINT and SIGTERM stop it,
with exit code 0.`,
		Example: `  isk publish --redis-file /etc/isk/redis --secret-file /etc/isk/fanout-secret
  isk publish --realm "Acme API" --lost-after 2s`,
		Args: noArguments,
		RunE: func(c *cobra.Command, args []string) error {
			if err := notSetToNothing(c, "redis-file", "secret-file", "realm", "lost-after"); err != nil {
				return err
			}
			return a.publish(c.Context(), &p)
		},
	}
	flags := c.Flags()
	flags.StringVar(&p.redisFile, "redis-file", "", "a `file` whose first line is the URL of Redis")
	flags.StringVar(&p.secretFile, "secret-file", "", "a `file` with the shared secret")
	flags.StringVar(&p.realm, "realm", "", "the `realm` of the API, as its instances have it (default: api)")
	flags.StringVar(&p.lostAfter, "lost-after", "", "how long subscribers wait for a sign of life: a `time` such as 2s (default: 5s)")
	for _, name := range []string{"realm", "lost-after"} {
		c.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	return c
}

// publishing are the flags of isk publish.
type publishing struct{ redisFile, secretFile, realm, lostAfter string }

// heartbeatInterval and heartbeatTimeout are those of the watch on PostgreSQL.
// Both together are how late it is known to be lost.
const (
	heartbeatInterval = time.Second
	heartbeatTimeout  = 2 * time.Second
)

func (a *app) publish(ctx context.Context, p *publishing) error {
	opts := &fanout.Options{Realm: p.realm, Logger: a.logger(), WatchBound: heartbeatInterval + heartbeatTimeout}
	var err error
	if opts.Secret, err = a.sharedSecret(p.secretFile); err != nil {
		return err
	}
	if p.lostAfter != "" {
		if opts.LostAfter, err = time.ParseDuration(p.lostAfter); err != nil || opts.LostAfter <= 0 {
			return wrongUsage("--lost-after is a time such as 2s")
		}
	}
	redis.SetLogger(silent{}) // fanout logs what matters
	client, err := a.redis(p.redisFile)
	if err != nil {
		return err
	}
	defer client.Close()
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	var watched store
	if s.kind == "postgres" {
		watched, err = postgres.New(s.db, &postgres.Options{Logger: opts.Logger, HeartbeatInterval: heartbeatInterval,
			HeartbeatTimeout: heartbeatTimeout})
	} else {
		watched, err = sqlite.New(s.db, &sqlite.Options{Logger: opts.Logger})
	}
	if err != nil {
		return err
	}
	defer watched.Close()
	err = fanout.Publish(ctx, watched, fanout.NewRedis(client), opts)
	if ctx.Err() != nil {
		return nil // it was stopped, as it should be
	}
	return err
}

// logger returns where a command that does not end logs.
func (a *app) logger() *slog.Logger {
	w := &striking{a}
	if a.json {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

// A silent logs nothing.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// striking writes to the standard error, without secrets. Slog writes a whole
// line at a time.
type striking struct{ a *app }

func (w *striking) Write(line []byte) (int, error) {
	text := w.a.keys.strike(w.a.secrets.strike(string(line)))
	_, err := w.a.stderr.Write([]byte(text))
	return len(line), err
}

// sharedSecret reads the secret of the fan-out.
func (a *app) sharedSecret(file string) (fanout.Secret, error) {
	from := "--secret-file"
	if file == "" {
		file, from = a.getenv(envSecret), envSecret
	}
	if file == "" {
		return nil, wrongUsage("the shared secret is missing: name its file by --secret-file or %s", envSecret)
	}
	secret, err := os.ReadFile(file)
	if err != nil {
		return nil, wrongUsage("%s: %s: %v", from, file, fileError(err))
	}
	secret = bytes.TrimSuffix(bytes.TrimSuffix(secret, []byte("\n")), []byte("\r"))
	if len(secret) < 32 {
		return nil, wrongUsage("%s: %s has %d bytes, but a shared secret has 32 or more", from, file, len(secret))
	}
	return secret, nil
}

// redis returns a client of the Redis that the file or the environment names.
func (a *app) redis(file string) (redis.UniversalClient, error) {
	text, from := a.getenv(envRedis), envRedis
	if file != "" {
		line, err := os.ReadFile(file)
		if err != nil {
			return nil, wrongUsage("--redis-file: %s: %v", file, fileError(err))
		}
		text, _, _ = strings.Cut(string(line), "\n")
		text, from = strings.TrimSpace(text), "--redis-file: "+file
	}
	if text == "" {
		return nil, wrongUsage("there is no URL of Redis: set %s, or name its file by --redis-file", envRedis)
	}
	u, err := url.Parse(text)
	if err != nil { // it would quote the URL
		return nil, wrongUsage("%s is no URL of Redis, such as redis://host:6379", from)
	}
	if password, ok := u.User.Password(); ok {
		a.secrets.add(password)
	}
	a.secrets.add(u.Query()["sentinel_password"]...)
	switch {
	case u.Query().Has("master_name"):
		o, err := redis.ParseFailoverURL(text)
		if err == nil {
			return redis.NewFailoverClient(o), nil
		}
	case u.Query().Has("addr"):
		o, err := redis.ParseClusterURL(text)
		if err == nil {
			return redis.NewClusterClient(o), nil
		}
	default:
		o, err := redis.ParseURL(text)
		if err == nil {
			return redis.NewClient(o), nil
		}
	}
	return nil, wrongUsage("%s is no URL of Redis, such as redis://host:6379", from)
}
