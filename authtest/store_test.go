package authtest_test

import (
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
)

func TestMemoryStore(t *testing.T) {
	authtest.TestStore(t, func(*testing.T) auth.KeyStore { return new(auth.MemoryStore) })
}

// The plain store that the broken ones are made from passes, or they would prove nothing.
func TestTable(t *testing.T) {
	authtest.TestStore(t, func(*testing.T) auth.KeyStore { return newTable() })
}
