package main

import (
	"math"
	"regexp"
	"strconv"
	"time"
)

// day is a day of a duration. A year of one has 365 of them.
const day = 24 * time.Hour

var (
	wholeUnits = regexp.MustCompile(`^([0-9]+)([dwy])$`)
	maxTime    = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) // RFC 3339 has four digits
)

const timeForms = "90d, 12w, 1y, 36h, 2027-12-31 or 2027-12-31T18:00:00Z"

// after returns the time that is the duration in text after t, and whether text
// is a duration. Years are those of the calendar.
func after(t time.Time, text string, sign int) (time.Time, bool) {
	if m := wholeUnits.FindStringSubmatch(text); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil || n > 4_000_000 { // days until the year 10000
			return maxTime, true
		}
		switch n *= sign; m[2] {
		case "d":
			return t.AddDate(0, 0, n), true
		case "w":
			return t.AddDate(0, 0, 7*n), true
		}
		return t.AddDate(n, 0, 0), true
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return time.Time{}, false
	}
	return t.Add(time.Duration(sign) * d), true
}

// parseExpiry returns the expiry that text says: a duration from now, a date,
// which is the end of that day in UTC, a time in RFC 3339, or never.
func parseExpiry(flag, text string, now time.Time) (time.Time, error) {
	if text == "never" {
		return time.Time{}, nil
	}
	now = now.UTC()
	t, ok := after(now, text, 1)
	if !ok {
		if date, err := time.Parse(time.DateOnly, text); err == nil {
			t, ok = date.AddDate(0, 0, 1), true
		} else if t, err = time.Parse(time.RFC3339, text); err == nil {
			ok = true
		}
	}
	switch {
	case !ok:
		return t, wrongUsage("%s is %s, or never", flag, timeForms)
	case !t.After(now):
		return t, wrongUsage("%s is not in the future", flag)
	case !t.Before(maxTime):
		return t, wrongUsage("%s is not before the year 10000; it can be never", flag)
	}
	return t.UTC(), nil
}

// parseTime returns the time that text says: a date, which begins in UTC, a time
// in RFC 3339, or a duration from now, backwards if sign is -1.
func parseTime(flag, text string, now time.Time, sign int) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC(), nil
	}
	t, ok := after(now.UTC(), text, sign)
	if !ok {
		return t, wrongUsage("%s is %s", flag, timeForms)
	}
	if t.Year() < 1 || !t.Before(maxTime) {
		return t, wrongUsage("%s is not in the years 1 to 9999", flag)
	}
	return t, nil
}

// parseDuration returns the duration that text says, which is not negative.
func parseDuration(flag, text string) (time.Duration, error) {
	if m := wholeUnits.FindStringSubmatch(text); m != nil {
		unit := map[string]time.Duration{"d": day, "w": 7 * day, "y": 365 * day}[m[2]]
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil || n > math.MaxInt64/int64(unit) {
			return 0, wrongUsage("%s is too long", flag)
		}
		return time.Duration(n) * unit, nil
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, wrongUsage("%s is a duration such as 90d, 12w, 1y or 36h", flag)
	case d < 0:
		return 0, wrongUsage("%s is negative", flag)
	}
	return d, nil
}

// timeText returns a time for people.
func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// timeOr returns a time for people, or a word if it is zero.
func timeOr(t time.Time, word string) string {
	if t.IsZero() {
		return word
	}
	return timeText(t)
}
