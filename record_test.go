package auth_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/insigner/auth"
)

func TestCheck(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 500, time.UTC)
	tomorrow, yesterday := now.AddDate(0, 0, 1), now.AddDate(0, 0, -1)
	east, west := time.FixedZone("east", 14*3600), time.FixedZone("west", -12*3600)
	year20000 := time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)
	var never time.Time
	for _, c := range []struct {
		name                       string
		now                        time.Time
		revoked, disabled, expires time.Time
		want                       error
	}{
		{"nothing set", now, never, never, never, nil},

		// The order, for each set of them.
		{"revoked, disabled, expired", now, now, now, now, auth.ErrKeyRevoked},
		{"revoked, disabled", now, now, now, never, auth.ErrKeyRevoked},
		{"revoked, expired", now, now, never, now, auth.ErrKeyRevoked},
		{"disabled, expired", now, never, now, now, auth.ErrKeyDisabled},
		{"revoked", now, now, never, never, auth.ErrKeyRevoked},
		{"disabled", now, never, now, never, auth.ErrKeyDisabled},
		{"expired", now, never, never, now, auth.ErrKeyExpired},
		{"revoked, not expired", now, now, never, tomorrow, auth.ErrKeyRevoked},
		{"disabled, not expired", now, never, now, tomorrow, auth.ErrKeyDisabled},

		// The times of a revocation and of disabling do not matter.
		{"revoked long ago", now, time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), never, never, auth.ErrKeyRevoked},
		{"revoked from tomorrow", now, tomorrow, never, never, auth.ErrKeyRevoked},
		{"revoked in year 20000", now, year20000, never, never, auth.ErrKeyRevoked},
		{"revoked tomorrow, disabled yesterday", now, tomorrow, yesterday, never, auth.ErrKeyRevoked},
		{"disabled long ago", now, never, time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), never, auth.ErrKeyDisabled},
		{"disabled from tomorrow", now, never, tomorrow, never, auth.ErrKeyDisabled},
		{"disabled tomorrow, expired yesterday", now, never, tomorrow, yesterday, auth.ErrKeyDisabled},

		// The instant of the expiry.
		{"a nanosecond to go", now, never, never, now.Add(1), nil},
		{"the instant itself", now, never, never, now, auth.ErrKeyExpired},
		{"a nanosecond ago", now, never, never, now.Add(-1), auth.ErrKeyExpired},

		// Time zones do not matter.
		{"to go, seen from the east", now.In(east), never, never, now.Add(1), nil},
		{"the instant, seen from the east", now.In(east), never, never, now, auth.ErrKeyExpired},
		{"to go, written in the west", now, never, never, now.Add(1).In(west), nil},
		{"the instant, written in the west", now, never, never, now.In(west), auth.ErrKeyExpired},
		{"past, though the clock of the east shows a later hour", now, never, never,
			now.Add(-time.Hour).In(east), auth.ErrKeyExpired},
		{"to come, though the clock of the west shows an earlier hour", now, never, never,
			now.Add(time.Hour).In(west), nil},

		// The ends of time.
		{"year 1", now, never, never, time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), auth.ErrKeyExpired},
		{"the first instant of year 1 is the zero time: never", now, never, never, time.Date(1, 1, 1, 0, 0, 0,
			0, time.UTC), nil},
		{"the same in another zone", now, never, never, time.Time{}.In(east), nil},
		{"never revoked, in another zone", now, time.Time{}.In(east), time.Time{}.In(west), never, nil},
		{"year 0", now, never, never, time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), auth.ErrKeyExpired},
		{"1883, before what a monotonic time can hold", now, never, never, time.Date(1883, 1, 1, 0, 0, 0, 0,
			time.UTC), auth.ErrKeyExpired},
		{"1970", now, never, never, time.Unix(0, 0), auth.ErrKeyExpired},
		{"2262, after what UnixNano can hold", now, never, never, time.Date(2262, 12, 1, 0, 0, 0, 0, time.UTC), nil},
		{"9999", now, never, never, time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), nil},
		{"20000", now, never, never, year20000, nil},
		{"in year 20000, the instant", year20000, never, never, year20000, auth.ErrKeyExpired},
		{"in year 20000, 9999 is past", year20000, never, never, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
			auth.ErrKeyExpired},
	} {
		r := auth.Record{RevokedAt: c.revoked, DisabledAt: c.disabled, ExpiresAt: c.expires}
		if got := r.Check(c.now); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// byTwoClocks returns a time that is later than now by wall on the wall clock,
// and by monotonic by its monotonic reading.
func byTwoClocks(t *testing.T, now time.Time, wall, monotonic time.Duration) time.Time {
	t.Helper()
	later := now.Add(wall)
	// The second word of a Time with a monotonic reading is that reading, in
	// nanoseconds.
	(*[2]int64)(unsafe.Pointer(&later))[1] += int64(monotonic - wall)
	if later.Round(0).Sub(now.Round(0)) != wall || later.Sub(now) != monotonic {
		t.Skip("time.Time has another layout")
	}
	return later
}

// TestCheckByWallClock: a monotonic reading that disagrees with the wall clock,
// as after a machine's sleep, does not matter.
func TestCheckByWallClock(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		wall, monotonic time.Duration // of the expiry, from now
		want            error
	}{
		{time.Hour, -time.Hour, nil},
		{-time.Hour, time.Hour, auth.ErrKeyExpired},
		{0, time.Hour, auth.ErrKeyExpired},
		{time.Hour, time.Hour, nil},
		{-time.Hour, -time.Hour, auth.ErrKeyExpired},
	} {
		r := auth.Record{ExpiresAt: byTwoClocks(t, now, c.wall, c.monotonic)}
		for name, now := range map[string]time.Time{"now": now, "wall clock only": now.Round(0), "in UTC": now.UTC()} {
			if got := r.Check(now); got != c.want {
				t.Errorf("%s: %v by the wall clock, %v by the monotonic: %v, want %v", name, c.wall,
					c.monotonic, got, c.want)
			}
		}
	}
}

// fullRecord returns a record of which no field is zero.
func fullRecord() auth.Record {
	r := scopedRecord("documents.read", "admin")
	r.ExpiresAt, r.DisabledAt = epoch.AddDate(1, 0, 0), epoch.AddDate(0, 1, 0)
	r.RevokedAt, r.LastUsedAt = epoch.AddDate(0, 2, 0), epoch.AddDate(0, 0, 1)
	r.RotatedFrom, r.RotatedTo = "key_before", "key_after"
	return r
}

func TestClone(t *testing.T) {
	r := fullRecord()
	v := reflect.ValueOf(r)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Fatalf("the field %s of fullRecord is zero", v.Type().Field(i).Name)
		}
	}
	clone := r.Clone()
	if !reflect.DeepEqual(*clone, r) {
		t.Errorf("%+v, want %+v", *clone, r)
	}
	// No field may point to the memory of the other record.
	for i := range v.NumField() {
		name, a, b := v.Type().Field(i).Name, v.Field(i), reflect.ValueOf(*clone).Field(i)
		switch a.Kind() {
		case reflect.Slice, reflect.Map, reflect.Pointer:
			if a.Pointer() == b.Pointer() {
				t.Errorf("the clone shares its %s", name)
			}
		case reflect.String, reflect.Int64:
		case reflect.Array, reflect.Struct: // Hash, time.Time
		default:
			t.Errorf("%s: a field of kind %v; this test does not know whether it can be shared", name, a.Kind())
		}
	}
	// A change of one does not reach the other, in either direction.
	clone.Scopes[0], clone.Metadata["env"] = "*", "changed"
	clone.Scopes = append(clone.Scopes, "*")
	if got := r.Scopes[0]; got != "documents.read" {
		t.Errorf("after a change of the clone, the scope is %s", got)
	}
	if got := r.Metadata["env"]; got != "prod" {
		t.Errorf("after a change of the clone, the metadata is %s", got)
	}
	spare := scopedRecord(append(make(auth.Scopes, 0, 8), "a.b")...)
	clone = spare.Clone()
	_ = append(spare.Scopes, "*")
	if got := append(clone.Scopes, "c.d")[1]; got != "c.d" {
		t.Errorf("the clone's spare memory holds %s", got)
	}
	if got := spare.Scopes[:2][1]; got != "*" {
		t.Errorf("the clone wrote %s to the record's spare memory", got)
	}
	if got := new(auth.Record).Clone(); !reflect.DeepEqual(*got, auth.Record{}) {
		t.Errorf("the clone of the zero Record is %+v", *got)
	}
}

// recordHolders returns values that hold r, in exported fields: package fmt
// calls no method of a value in another field, nor of what a pointer inside a
// value leads to if the verb is wrong for a pointer.
func recordHolders(r auth.Record) map[string]any {
	type exported struct {
		Name    string
		Record  auth.Record
		Pointer *auth.Record
		Any     any
	}
	in := exported{"n", r, &r, r}
	return map[string]any{
		"record":           r,
		"pointer":          &r,
		"slice":            []auth.Record{r},
		"pointers":         []*auth.Record{&r},
		"array":            [1]auth.Record{r},
		"map":              map[string]auth.Record{"k": r},
		"map of pointers":  map[string]*auth.Record{"k": &r},
		"map of slices":    map[int][]auth.Record{1: {r}},
		"any":              []any{r, &r},
		"struct":           in,
		"struct pointer":   &in,
		"structs":          []exported{in},
		"map of structs":   map[string]exported{"k": in},
		"pointer in field": struct{ R *auth.Record }{&r},
		"embedded":         struct{ auth.Record }{r},
		"embedded pointer": struct{ *auth.Record }{&r},
		"error":            fmt.Errorf("a %v, a %+v, a %d", r, &r, []auth.Record{r}),
	}
}

func TestRecordPrintsNoHash(t *testing.T) {
	r := fullRecord()
	for _, text := range []string{
		goodHash.String(), string(goodHash[:]),
		fmt.Sprint(goodHash[:]), fmt.Sprintf("%X", goodHash[:]), fmt.Sprintf("%#v", goodHash[:]),
	} {
		if !leaksHash(text, goodHash) {
			t.Fatalf("leaksHash does not find it in %q", text)
		}
	}
	for name, v := range recordHolders(r) {
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
		check("an argument too many", fmt.Sprintf([]string{"text"}[0], v))
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

func TestRecordPrints(t *testing.T) {
	r := goodRecord()
	const short = "key_good (isk_…U1v2)"
	for _, verb := range "vsqxXdtbcoOeEfFgGUz" {
		for _, flag := range []string{"", "+", "#"} {
			format := "%" + flag + string(verb)
			if got := fmt.Sprintf(format, r); got != short {
				t.Errorf("%s: %s, want %s", format, got, short)
			}
			if got := fmt.Sprintf(format, &r); got != short {
				t.Errorf("%s of a pointer: %s, want %s", format, got, short)
			}
			if got := fmt.Sprintf(format, []any{&r}); !strings.Contains(got, short) {
				t.Errorf("%s of a slice: %s, want %s in it", format, got, short)
			}
		}
	}
	if got := r.String(); got != short {
		t.Errorf("String: %s, want %s", got, short)
	}
	if got, want := fmt.Sprint((*auth.Record)(nil)), "<nil>"; got != want {
		t.Errorf("a nil *Record: %s, want %s", got, want)
	}
	logger, out := captureLog()
	logger.Info("m", "r", r, "p", &r)
	line := out.lines(t)[0]
	want := map[string]any{"id": "key_good", "hint": "isk_…U1v2", "name": "Production Backend", "owner": "org_1"}
	for _, name := range []string{"r", "p"} {
		if got := line[name]; !reflect.DeepEqual(got, want) {
			t.Errorf("slog of %s: %v, want %v", name, got, want)
		}
	}
}

func TestRecordJSON(t *testing.T) {
	for _, c := range []struct {
		name   string
		record auth.Record
		want   string
	}{
		{"zero", auth.Record{},
			`{"id":"","hint":"","name":"","scopes":[],"createdAt":"0001-01-01T00:00:00Z","revision":0}`},
		{"good", goodRecord(),
			`{"id":"key_good","hint":"isk_…U1v2","name":"Production Backend","owner":"org_1","scopes":["*"],` +
				`"metadata":{"env":"prod"},"createdAt":"2026-01-02T03:04:05Z","createdBy":"staff:ada",` +
				`"updatedAt":"2026-01-02T03:04:05Z","updatedBy":"staff:ada","revision":1,"chain":"key_good"}`},
		{"full", fullRecord(),
			`{"id":"key_good","hint":"isk_…U1v2","name":"Production Backend","owner":"org_1","scopes":["documents.read","admin"],` +
				`"metadata":{"env":"prod"},"createdAt":"2026-01-02T03:04:05Z","createdBy":"staff:ada",` +
				`"updatedAt":"2026-01-02T03:04:05Z","updatedBy":"staff:ada","revision":1,` +
				`"expiresAt":"2027-01-02T03:04:05Z","disabledAt":"2026-02-02T03:04:05Z","revokedAt":"2026-03-02T03:04:05Z",` +
				`"lastUsedAt":"2026-01-03T03:04:05Z","rotatedFrom":"key_before","rotatedTo":"key_after","chain":"key_good"}`},
	} {
		got, err := json.Marshal(c.record)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if string(got) != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
}
