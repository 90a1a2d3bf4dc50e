package auth_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/insigner/auth"
)

func TestChangeKind(t *testing.T) {
	for kind, want := range map[auth.ChangeKind]string{
		auth.RecordChanged: "RecordChanged",
		auth.WatchStarted:  "WatchStarted",
		auth.WatchLost:     "WatchLost",
		0:                  "ChangeKind(0)",
		9:                  "ChangeKind(9)",
		-1:                 "ChangeKind(-1)",
	} {
		if got := kind.String(); got != want {
			t.Errorf("String: %s, want %s", got, want)
		}
		if got := fmt.Sprint(kind); got != want {
			t.Errorf("printed: %s, want %s", got, want)
		}
	}
}

func TestChangePrints(t *testing.T) {
	c := auth.Change{Kind: auth.RecordChanged, Hash: goodHash}
	const want = "RecordChanged"
	for _, verb := range "vsqxXdtbcoOeEfFgGUz" {
		for _, flag := range []string{"", "+", "#"} {
			format := "%" + flag + string(verb)
			if got := fmt.Sprintf(format, c); got != want {
				t.Errorf("%s: %s, want %s", format, got, want)
			}
			if got := fmt.Sprintf(format, &c); got != want {
				t.Errorf("%s of a pointer: %s, want %s", format, got, want)
			}
		}
	}
	if got := c.String(); got != want {
		t.Errorf("String: %s, want %s", got, want)
	}
	logger, out := captureLog()
	logger.Info("m", "c", c)
	wantLog := map[string]any{"kind": want, "hash": goodHash.String()[:8] + "…"}
	if got := out.lines(t)[0]["c"]; !reflect.DeepEqual(got, wantLog) {
		t.Errorf("slog: %v, want %v", got, wantLog)
	}
}

func TestChangePrintsNoHash(t *testing.T) {
	c := auth.Change{Kind: auth.RecordChanged, Hash: goodHash}
	type exported struct {
		Change  auth.Change
		Pointer *auth.Change
		Any     any
	}
	for name, v := range map[string]any{
		"change":           c,
		"pointer":          &c,
		"slice":            []auth.Change{c},
		"pointers":         []*auth.Change{&c},
		"array":            [1]auth.Change{c},
		"map":              map[string]auth.Change{"k": c},
		"map of pointers":  map[string]*auth.Change{"k": &c},
		"any":              []any{c, &c},
		"struct":           exported{c, &c, c},
		"struct pointer":   &exported{c, &c, c},
		"pointer in field": struct{ C *auth.Change }{&c},
		"embedded":         struct{ auth.Change }{c},
		"error":            fmt.Errorf("a %v, a %+v, a %d", c, &c, []auth.Change{c}),
	} {
		check := func(how, text string) {
			if leaksHash(text, goodHash) {
				t.Errorf("%s by %s prints the hash: %.300q", name, how, text)
			}
		}
		for _, flags := range []string{"", "+", "#", " ", "0", "-", "+#", "# ", "60", ".60"} {
			for _, verb := range "vtbcdoOqxXUeEfFgGs!z" { // not %p, %T and %w, which package fmt does not pass on
				format := "%" + flags + string(verb)
				check(format, fmt.Sprintf(format, v))
			}
		}
		check("Sprintln", fmt.Sprintln(v))
		logger, out := captureLog()
		logger.Info("m", "v", v)
		check("slog", out.String())
		text, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%s: JSON: %v", name, err)
		}
		check("JSON", string(text))
	}
}
