package observe_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/examples/metrics/observe"
)

func TestOutcomeOf(t *testing.T) {
	background := context.Background()
	left, cancel := context.WithCancel(background)
	cancel()
	late, stop := context.WithTimeout(background, 0)
	defer stop()
	for _, test := range []struct {
		what string
		ctx  context.Context
		step auth.Step
		err  error
		code string
		want observe.Outcome
	}{
		{"passed", background, auth.StepAuthenticate, nil, "", observe.Outcome{"authenticate", "OK"}},
		{"passed, the client left", left, auth.StepAuthorize, nil, "", observe.Outcome{"authorize", "OK"}},
		{"refused", background, auth.StepRecheck, auth.ErrKeyRevoked, "KEY_REVOKED", observe.Outcome{"recheck", "KEY_REVOKED"}},
		{"refused, the client left", left, auth.StepRecheck, auth.ErrKeyRevoked, "KEY_REVOKED", observe.Outcome{"recheck", "KEY_REVOKED"}},
		{"an outage", background, auth.StepAuthenticate, auth.ErrStoreUnavailable, "STORE_UNAVAILABLE", observe.Outcome{"authenticate", "STORE_UNAVAILABLE"}},
		{"an outage, late", late, auth.StepAuthenticate, auth.ErrStoreUnavailable, "STORE_UNAVAILABLE", observe.Outcome{"authenticate", "STORE_UNAVAILABLE"}},
		{"the client left", left, auth.StepAuthenticate, auth.ErrStoreUnavailable, "STORE_UNAVAILABLE", observe.Outcome{"authenticate", "CLIENT_GONE"}},
		{"a mistake", background, auth.StepAuthorize, errors.New("?"), "", observe.Outcome{"authorize", "INTERNAL_ERROR"}},
		{"another code", background, auth.StepAuthorize, errors.New("?"), "isk_x", observe.Outcome{"authorize", "OTHER"}},
		{"another step", background, "isk_x", nil, "", observe.Outcome{"other", "OK"}},
		{"nothing that is known", background, "", errors.New("?"), "x", observe.Outcome{"other", "OTHER"}},
	} {
		if got := observe.OutcomeOf(test.ctx, auth.Decision{Step: test.step, Err: test.err, Code: test.code}); got != test.want {
			t.Errorf("%s: got %v, want %v", test.what, got, test.want)
		}
	}
}

// TestCodes checks that the codes of package auth are listed.
func TestCodes(t *testing.T) {
	for _, err := range []error{auth.ErrMissingKey, auth.ErrInvalidFormat, auth.ErrInvalidKey, auth.ErrKeyRevoked,
		auth.ErrKeyDisabled, auth.ErrKeyExpired, auth.ErrInsufficientScope, auth.ErrStoreUnavailable} {
		if code := auth.Code(err); !slices.Contains(observe.Codes, code) {
			t.Errorf("%s is not listed", code)
		}
	}
	for _, o := range observe.Outcomes() {
		if !slices.Contains(observe.Codes, o.Code) {
			t.Errorf("%v has another code", o)
		}
	}
	if got, want := len(observe.Outcomes()), 36; got != want {
		t.Errorf("got %d outcomes, want %d", got, want)
	}
}
