package integration

import (
	"strings"
	"testing"

	"github.com/davecgh/go-spew/spew"
	"github.com/insigner/auth"
)

// TestDumpers checks that packages which dump values by reflection, with access
// to unexported fields through package unsafe, neither crash on a Key nor show
// it.
func TestDumpers(t *testing.T) {
	key := auth.Scheme{}.NewKey()
	type holder struct {
		Exported auth.Key
		hidden   auth.Key
		pointer  *auth.Key
		list     []auth.Key
		byName   map[string]auth.Key
		any      any
	}
	value := holder{key, key, &key, []auth.Key{key}, map[string]auth.Key{"a": key}, key}
	secret := key.Reveal()[4:20]
	for name, config := range map[string]*spew.ConfigState{
		"spew":                         spew.NewDefaultConfig(),
		"spew without methods":         {Indent: " ", DisableMethods: true},
		"spew without pointer methods": {Indent: " ", DisablePointerMethods: true},
		"spew with methods, on":        {Indent: " ", ContinueOnMethod: true},
	} {
		for _, v := range []any{key, &key, value, &value} {
			if text := config.Sdump(v); strings.Contains(text, secret) {
				t.Errorf("%s: Sdump of %T shows the key", name, v)
			}
			if text := config.Sprintf("%v %+v %#v", v, v, v); strings.Contains(text, secret) {
				t.Errorf("%s: Sprintf of %T shows the key", name, v)
			}
		}
	}
}
