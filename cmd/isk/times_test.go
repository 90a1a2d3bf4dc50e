package main

import (
	"testing"
	"time"
)

func TestParseExpiry(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 5, time.UTC)
	at := func(y int, m time.Month, d, h int) time.Time { return time.Date(y, m, d, h, 0, 0, 5, time.UTC) }
	date := func(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }
	for _, test := range []struct {
		text string
		want time.Time // zero: refused
	}{
		{"90d", at(2027, 2, 27, 12)},
		{"1d", at(2026, 11, 30, 12)},
		{"12w", at(2027, 2, 21, 12)},
		{"1y", at(2027, 11, 29, 12)},
		{"2y", at(2028, 11, 29, 12)},
		{"7000y", at(9026, 11, 29, 12)},
		{"36h", at(2026, 12, 1, 0)},
		{"1h30m", time.Date(2026, 11, 29, 13, 30, 0, 5, time.UTC)},
		{"2027-01-31", date(2027, 2, 1)},
		{"2026-11-29", date(2026, 11, 30)}, // today
		{"2027-12-31T18:00:00Z", time.Date(2027, 12, 31, 18, 0, 0, 0, time.UTC)},
		{"2027-12-31T18:00:00+02:00", time.Date(2027, 12, 31, 16, 0, 0, 0, time.UTC)},
		{"9999-12-30", date(9999, 12, 31)},
		{"", time.Time{}}, {"0", time.Time{}}, {"0d", time.Time{}}, {"0h", time.Time{}}, {"0y", time.Time{}},
		{"-1d", time.Time{}}, {"-1h", time.Time{}}, {"+1d", time.Time{}}, {"1.5d", time.Time{}}, {"90", time.Time{}},
		{"90D", time.Time{}}, {"90 d", time.Time{}}, {"d", time.Time{}}, {"1month", time.Time{}}, {"tomorrow", time.Time{}},
		{"Never", time.Time{}}, {"2026-11-28", time.Time{}}, {"2026-11-29T11:59:59Z", time.Time{}},
		{"2027-02-30", time.Time{}}, {"2027-1-1", time.Time{}}, {"31.12.2027", time.Time{}}, {"2027-12-31T18:00:00", time.Time{}},
		{"9999-12-31", time.Time{}}, {"8000y", time.Time{}}, {"4000000d", time.Time{}}, {"4000001d", time.Time{}},
		{"9223372036854775807d", time.Time{}}, {"9223372036854775808w", time.Time{}}, {"99999999999999999999y", time.Time{}},
		{"9999999999h", time.Time{}},
	} {
		got, err := parseExpiry("--expires", test.text, now)
		if refused := err != nil; refused != test.want.IsZero() {
			t.Errorf("%q: %v, %v", test.text, got, err)
			continue
		}
		if err == nil && !got.Equal(test.want) {
			t.Errorf("%q: %v, want %v", test.text, got, test.want)
		}
		if err != nil && asFailure(t.Context(), err).exit != exitUsage {
			t.Errorf("%q: exit code %d, want 2", test.text, asFailure(t.Context(), err).exit)
		}
	}
	if got, err := parseExpiry("--expires", "never", now); err != nil || !got.IsZero() {
		t.Errorf("never: %v, %v", got, err)
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		text string
		sign int
		want string // empty: refused
	}{
		{"7d", -1, "2026-11-22T12:00:00Z"},
		{"7d", 1, "2026-12-06T12:00:00Z"},
		{"24h", -1, "2026-11-28T12:00:00Z"},
		{"1y", -1, "2025-11-29T12:00:00Z"},
		{"2026-01-02", -1, "2026-01-02T00:00:00Z"},
		{"2026-01-02T03:04:05+01:00", 1, "2026-01-02T02:04:05Z"},
		{"soon", 1, ""}, {"4000001d", 1, ""}, {"4000001d", -1, ""}, {"3000y", -1, ""}, {"-", 1, ""},
	} {
		got, err := parseTime("--from", test.text, now, test.sign)
		switch {
		case err != nil && test.want != "":
			t.Errorf("%q: %v", test.text, err)
		case err == nil && got.Format(time.RFC3339) != test.want:
			t.Errorf("%q: %v, want %s", test.text, got, test.want)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0d": 0, "24h": day, "7d": 7 * day, "2w": 14 * day, "1y": 365 * day,
		"90m": 90 * time.Minute, "106751d": 106751 * day,
		"": -1, "-1h": -1, "-1d": -1, "1.5d": -1, "106752d": -1, "9223372036854775808d": -1, "293y": -1, "9999999999h": -1, "x": -1,
	} {
		got, err := parseDuration("--grace", text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
}
