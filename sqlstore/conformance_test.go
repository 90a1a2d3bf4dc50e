package sqlstore_test

import (
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
)

func TestConformance(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			authtest.TestStore(t, func(t *testing.T) auth.KeyStore { s, _ := k.open(t); return s })
		})
	}
}
