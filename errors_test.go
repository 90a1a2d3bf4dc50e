package auth_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/insigner/auth"
)

// sentinels are the errors of package auth, with their codes.
var sentinels = []struct {
	err  error
	code string
}{
	{auth.ErrMissingKey, "MISSING_KEY"},
	{auth.ErrInvalidFormat, "INVALID_FORMAT"},
	{auth.ErrInvalidKey, "INVALID_KEY"},
	{auth.ErrKeyRevoked, "KEY_REVOKED"},
	{auth.ErrKeyDisabled, "KEY_DISABLED"},
	{auth.ErrKeyExpired, "KEY_EXPIRED"},
	{auth.ErrInsufficientScope, "INSUFFICIENT_SCOPE"},
	{auth.ErrStoreUnavailable, "STORE_UNAVAILABLE"},
	{auth.ErrNotFound, ""}, // of a Store, not of an Authenticator
}

// TestSentinels: each matches itself alone, and says something of its own.
func TestSentinels(t *testing.T) {
	texts := make(map[string]bool)
	for i, a := range sentinels {
		for j, b := range sentinels {
			if got, want := errors.Is(a.err, b.err), i == j; got != want {
				t.Errorf("%v is %v: %v, want %v", a.err, b.err, got, want)
			}
		}
		text := a.err.Error()
		if !strings.HasPrefix(text, "auth: ") {
			t.Errorf("%q does not start with %q", text, "auth: ")
		}
		if texts[text] {
			t.Errorf("two errors say %q", text)
		}
		texts[text] = true
	}
}

func TestSentinelCodes(t *testing.T) {
	for _, c := range sentinels {
		for _, err := range []error{c.err, fmt.Errorf("wrapped: %w", c.err), errors.Join(io.EOF, c.err)} {
			if got := auth.Code(err); got != c.code {
				t.Errorf("Code(%v): %q, want %q", err, got, c.code)
			}
		}
	}
}
