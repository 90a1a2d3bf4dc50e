package authtest_test

import (
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
)

func TestMemoryStore(t *testing.T) {
	authtest.TestStore(t, func(*testing.T) auth.KeyStore { return new(auth.MemoryStore) })
}
