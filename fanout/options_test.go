package fanout_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth/fanout"
	"github.com/insigner/auth/keyring"
)

func TestWrongOptions(t *testing.T) {
	for what, opts := range map[string]*fanout.Options{
		"nil":                   nil,
		"no secret":             {},
		"a short secret":        {Secret: secret[:31]},
		"a short second secret": {Secret: secret, AlsoAccept: []fanout.Secret{nil}},
		"only a second secret":  {AlsoAccept: []fanout.Secret{secret}},
		"negative LostAfter":    {Secret: secret, LostAfter: -1},
		"tiny LostAfter":        {Secret: secret, LostAfter: time.Millisecond},
		"huge LostAfter":        {Secret: secret, LostAfter: 1 << 62},
		"negative WatchBound":   {Secret: secret, WatchBound: -1},
		"negative MaxLookups":   {Secret: secret, MaxLookups: -1},
	} {
		store, conn := new(keyring.MemoryStore), new(broker)
		err := fanout.Publish(t.Context(), store, conn, opts)
		if err == nil {
			t.Errorf("%s: Publish returned no error", what)
		}
		got := panics(func() { fanout.New(store, conn, opts) })
		if got == "" {
			t.Errorf("%s: New did not panic", what)
		}
		if text := got + err.Error(); strings.Contains(text, string(secret[:8])) {
			t.Errorf("%s: the secret is in %q", what, text)
		}
	}
	if fanout.Publish(t.Context(), nil, new(broker), options()) == nil {
		t.Error("Publish without a Watcher returned no error")
	}
	if fanout.Publish(t.Context(), new(keyring.MemoryStore), nil, options()) == nil {
		t.Error("Publish without a Conn returned no error")
	}
	for what, f := range map[string]func(){
		"New without a Store": func() { fanout.New(nil, new(broker), options()) },
		"New without a Conn":  func() { fanout.New(new(keyring.MemoryStore), nil, options()) },
		"NewRedis(nil)":       func() { fanout.NewRedis(nil) },
	} {
		if panics(f) == "" {
			t.Errorf("%s did not panic", what)
		}
	}
}

func panics(f func()) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprint(v)
		}
	}()
	f()
	return ""
}

func TestSecretIsNotPrinted(t *testing.T) {
	opts := &fanout.Options{Secret: secret, AlsoAccept: []fanout.Secret{secret}}
	w := fanout.New(new(keyring.MemoryStore), new(broker), opts)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+" "+verb+" "+verb+" "+verb+"\n", opts, *opts, opts.Secret, w)
	}
	must(t, json.NewEncoder(&out).Encode(struct {
		A fanout.Secret
		B []fanout.Secret
	}{opts.Secret, opts.AlsoAccept}))
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "a", opts.Secret, "b", *opts, "c", w)
	for _, spelling := range []string{string(secret), fmt.Sprintf("%x", secret[:4]), "48 49 50", "0x30", "MDEyMzQ1"} {
		if strings.Contains(out.String(), spelling) {
			t.Errorf("the secret is printed, as %q, in %q", spelling, out.String())
		}
	}
}

// A secret can be replaced without a loss, in the order that the doc gives.
func TestReplacedSecret(t *testing.T) {
	other := []byte("fedcba9876543210fedcba9876543210")
	steps := []fanout.Options{
		{Secret: secret},
		{Secret: secret, AlsoAccept: []fanout.Secret{other}},
		{Secret: other, AlsoAccept: []fanout.Secret{secret}},
		{Secret: other},
	}
	for i, a := range steps {
		for j, b := range steps {
			synctest.Test(t, func(t *testing.T) {
				a.Logger, b.Logger = quiet, quiet
				store, conn := new(keyring.MemoryStore), new(broker)
				publish(t, store, conn, &a)
				w := watchOf(t, fanout.New(store, conn, &b))
				time.Sleep(time.Minute)
				if n := i - j; n < -1 || n > 1 {
					w.quiet(fmt.Sprintf("the steps %d and %d", i, j))
					return
				}
				w.expect(started)
			})
		}
	}
}

func TestChannels(t *testing.T) {
	for prefix, opts := range map[string]*fanout.Options{
		"auth:api:":  {},
		"auth:acme:": {Realm: "acme"},
		"x/":         {Realm: "acme", Prefix: "x/"},
	} {
		synctest.Test(t, func(t *testing.T) {
			opts.Secret, opts.Logger = secret, quiet
			store, conn := new(keyring.MemoryStore), new(broker)
			seen := make(map[string]bool)
			conn.deliver = func(channel string, m []byte, put func([]byte)) { seen[channel] = true; put(m) }
			publish(t, store, conn, opts)
			w := watchOf(t, fanout.New(store, conn, opts))
			w.expect(started)
			conn.set(func() {
				for _, name := range []string{prefix + "changes", prefix + "hellos"} {
					if !seen[name] {
						t.Errorf("%+v: nothing on %s, but on %v", opts, name, seen)
					}
				}
			})
		})
	}
}
