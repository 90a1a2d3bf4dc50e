package dashboard_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/dashboard"
	"github.com/insigner/auth/keyring"
)

// The page of a key shows its limit and what is left of it.
func TestRateLimit(t *testing.T) {
	limit, failure, asked := dashboard.RateLimit{}, error(nil), auth.Record{}
	s := newSite(t, func(o *dashboard.Options, _ *keyring.Options) {
		o.RateLimit = func(_ context.Context, r auth.Record) (dashboard.RateLimit, error) {
			asked = r
			return limit, failure
		}
	})
	r := s.create(keyring.Spec{})
	for _, test := range []struct {
		limit dashboard.RateLimit
		want  string
	}{
		{dashboard.RateLimit{Requests: 120, Period: time.Minute, Remaining: 120}, "Rate limit 120 a minute Left now 120 of 120"},
		{dashboard.RateLimit{Requests: 120, Period: time.Minute, Remaining: 87, Reset: 16100 * time.Millisecond},
			"Rate limit 120 a minute Left now 87 of 120, all of them in 17 s"},
		{dashboard.RateLimit{Requests: 5, Period: time.Second, Reset: time.Millisecond}, "5 a second Left now 0 of 5, all of them in 1 s"},
		{dashboard.RateLimit{Requests: 1, Period: time.Hour, Remaining: 2}, "1 an hour Left now 1 of 1"},
		{dashboard.RateLimit{Requests: 9, Period: 24 * time.Hour, Remaining: -1, Reset: -1}, "9 a day Left now 0 of 9, all of them in 1 s"},
		{dashboard.RateLimit{Requests: 9, Period: 90 * time.Second, Remaining: 9}, "9 in 1m30s Left now 9 of 9"},
		{dashboard.RateLimit{}, "Rate limit No limit"},
	} {
		limit = test.limit
		page := s.get("keys/" + r.ID).is(200)
		page.body += "" // what follows the list is the section of the requests
		page.has(test.want[:len(test.want)-2])
	}
	equal(t, "the record that is asked for", asked.ID, r.ID)

	failure = errors.New("connection refused")
	s.get("keys/"+r.ID).is(200).has("Rate limit The rate limit cannot be read right now.").hasNot("Left now", "connection refused")

	failure = nil
	other, _, err := s.manager.Unconfined("setup").Rotate(ctx, r.ID, time.Hour)
	must(t, err)
	limit = dashboard.RateLimit{Requests: 120, Period: time.Minute, Remaining: 3, Reset: time.Minute}
	s.get("keys/" + other.ID).is(200).has("3 of 120, all of them in 60 s The keys of a rotation share them.")

	must(t, s.manager.Unconfined("setup").Revoke(ctx, r.ID))
	asked = auth.Record{}
	s.get("keys/"+r.ID).is(200).hasNot("Rate limit", "Left now")
	equal(t, "the record that is asked for once it is revoked", asked.ID, "")
	s.as(bob).get("keys/" + other.ID).is(404)
	equal(t, "the record that is asked for by another owner", asked.ID, "")
}
