package auth_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/insigner/auth"
)

func TestHashers(t *testing.T) {
	count := func(n int) []byte { // 00 01 02 …, the keys of the official BLAKE2 test vectors
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i)
		}
		return b
	}
	long := strings.Repeat("a", 200)
	for _, c := range []struct {
		name   string
		hasher auth.Hasher
		input  string
		want   string
	}{
		{"BLAKE2b-256 of nothing", auth.BLAKE2b(nil), "",
			"0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"},
		{"BLAKE2b-256", auth.BLAKE2b(nil), "abc", "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"},
		{"BLAKE2b-256 of a key", auth.BLAKE2b(nil), goodKey,
			"dab1a808d67525010145e418f193a0ad5d172ddecb74fd889be4ddf415d4f8ed"},
		{"BLAKE2b-256, long", auth.BLAKE2b(nil), long,
			"6b6e59aaf00eb730cf93de53560846722184bbd92f8368c21ffa95380c2f9fe6"},
		{"BLAKE2b-256, 1 byte", auth.BLAKE2b(count(1)), goodKey,
			"2e676cf369afa5d82c637e056a53a74184f1635d8514afcd3325c36b5f349249"},
		{"BLAKE2b-256, 32 bytes", auth.BLAKE2b(count(32)), goodKey,
			"babb4a3f06a5395d6183b1302318fc350431c5f3027357eddc2eabc13b42813b"},
		{"BLAKE2b-256, 64 bytes", auth.BLAKE2b(count(64)), goodKey,
			"34d15d98fe93e3a8686aae345f8a6adcfff35994987f3b3cfd88d6c3ba14fedc"},
		{"BLAKE2b-256, keyed, long", auth.BLAKE2b(count(32)), long,
			"35ce8d4227f3bcc8b2df8e2773e495b410d8484e2ee119d7ca34e1da452ebb57"},
		{"SHA-256", auth.SHA256(nil), "abc",
			"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}, // FIPS 180-4
		{"SHA-256 of nothing", auth.SHA256(nil), "",
			"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"SHA-256 of a key", auth.SHA256(nil), goodKey,
			"7c3cf4722ff7e8594ea841c00201aafca39f2399928dac4f13d5df79f794f1cf"},
		{"SHA-256, long", auth.SHA256(nil), long, "c2a908d98f5df987ade41b5fce213067efbcc21ef2240212a41e54b5e7c28ae5"},
		{"RFC 4231, 1", auth.SHA256(bytes.Repeat([]byte{0x0b}, 20)), "Hi There",
			"b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		{"RFC 4231, 2", auth.SHA256([]byte("Jefe")), "what do ya want for nothing?",
			"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{"RFC 4231, 6", auth.SHA256(bytes.Repeat([]byte{0xaa}, 131)),
			"Test Using Larger Than Block-Size Key - Hash Key First",
			"60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
		{"HMAC-SHA-256 of a key", auth.SHA256(count(32)), goodKey,
			"41d549adbeeb1c3997e29d0f7039e4faac68a5ad3558073aa3dc50b992f2befc"},
	} {
		for range 3 { // the second and third with a state of the pool
			if got := c.hasher(c.input).String(); got != c.want {
				t.Errorf("%s: %s, want %s", c.name, got, c.want)
			}
		}
	}
}

// TestHashersConcurrent: goroutines do not share a state of the pool, and a
// state keeps nothing of the text before.
func TestHashersConcurrent(t *testing.T) {
	pepper := []byte("0123456789abcdef")
	for name, hasher := range map[string]auth.Hasher{
		"BLAKE2b":       auth.BLAKE2b(nil),
		"keyed BLAKE2b": auth.BLAKE2b(pepper),
		"SHA256":        auth.SHA256(nil),
		"keyed SHA256":  auth.SHA256(pepper),
	} {
		inputs := []string{goodKey, goodKey[:10], strings.Repeat("long", 100), ""}
		var want []auth.Hash
		for _, in := range inputs {
			want = append(want, hasher(in))
		}
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 500 {
					n := (i + g) % len(inputs)
					if got := hasher(inputs[n]); got != want[n] {
						t.Errorf("%s of %.20q: %s, want %s", name, inputs[n], got, want[n])
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestPepper(t *testing.T) {
	for name, keyed := range map[string]func([]byte) auth.Hasher{"BLAKE2b": auth.BLAKE2b, "SHA256": auth.SHA256} {
		const text = "a pepper of some thirty bytes .."
		pepper := []byte(text)
		hasher := keyed(pepper)
		want := keyed([]byte(text))(goodKey)
		pepper[0] = 'x' // before the first use
		if got := hasher(goodKey); got != want {
			t.Errorf("%s: the hash changed with the caller's slice", name)
		}
		if keyed(pepper)(goodKey) == want {
			t.Errorf("%s: two peppers give one hash", name)
		}
		if keyed(nil)(goodKey) == want {
			t.Errorf("%s: with and without a pepper, the hash is the same", name)
		}
	}
	for _, c := range []struct {
		call string
		f    func()
		want string
	}{
		{"BLAKE2b(nil)", func() { auth.BLAKE2b(nil) }, ""},
		{"BLAKE2b of 1 byte", func() { auth.BLAKE2b(make([]byte, 1)) }, ""},
		{"BLAKE2b of 64 bytes", func() { auth.BLAKE2b(make([]byte, 64)) }, ""},
		{"BLAKE2b of 65 bytes", func() { auth.BLAKE2b(make([]byte, 65)) },
			"auth.BLAKE2b: the pepper has 65 bytes; at most 64 (RFC 7693 section 2.1)"},
		{"BLAKE2b of 0 bytes", func() { auth.BLAKE2b([]byte{}) },
			"auth.BLAKE2b: the pepper is empty; pass nil to hash without one"},
		{"SHA256(nil)", func() { auth.SHA256(nil) }, ""},
		{"SHA256 of 1 byte", func() { auth.SHA256(make([]byte, 1)) }, ""},
		{"SHA256 of 1000 bytes", func() { auth.SHA256(make([]byte, 1000)) }, ""},
		{"SHA256 of 0 bytes", func() { auth.SHA256([]byte{}) },
			"auth.SHA256: the pepper is empty; pass nil to hash without one"},
	} {
		if got := panicOf(c.f); got != c.want {
			t.Errorf("%s: panic %q, want %q", c.call, got, c.want)
		}
	}
}

func TestHashersDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool drop values")
	}
	longest := auth.Scheme{Prefix: strings.Repeat("p", 31) + "_"}.NewKey().Reveal()
	for name, hasher := range map[string]auth.Hasher{
		"BLAKE2b":       auth.BLAKE2b(nil),
		"keyed BLAKE2b": auth.BLAKE2b([]byte("pepper")),
		"SHA256":        auth.SHA256(nil),
		"keyed SHA256":  auth.SHA256([]byte("pepper")),
	} {
		for _, text := range []string{goodKey, longest} {
			if got := testing.AllocsPerRun(200, func() { hasher(text) }); got > 0 {
				t.Errorf("%s of %d bytes: %v allocations, want none", name, len(text), got)
			}
		}
	}
}

func TestHashPrints(t *testing.T) {
	h := goodHash
	lower := "dab1a808d67525010145e418f193a0ad5d172ddecb74fd889be4ddf415d4f8ed"
	if raw, _ := hex.DecodeString(lower); !bytes.Equal(raw, h[:]) {
		t.Fatalf("goodHash is %x, want %s", h[:], lower)
	}
	if got := h.String(); got != lower {
		t.Errorf("String: %s, want %s", got, lower)
	}
	for _, verb := range []string{"v", "+v", "#v", "s", "d", "x", "X", "q", "o", "b", "c", "U", "t", "e", "z"} {
		if got := fmt.Sprintf("%"+verb, h); got != lower {
			t.Errorf("%%%s: %s, want %s", verb, got, lower)
		}
		if got := fmt.Sprintf("%"+verb, &h); got != lower {
			t.Errorf("%%%s of a pointer: %s, want %s", verb, got, lower)
		}
	}
	logger, out := captureLog()
	logger.Info("m", "h", h)
	if got, want := out.lines(t)[0]["h"], lower[:8]+"…"; got != want {
		t.Errorf("slog: %v, want %s", got, want)
	}
}

func TestHashText(t *testing.T) {
	lower := goodHash.String()
	upper := strings.ToUpper(lower)
	const length, digits = "auth: a hash has 64 hex digits, not %d bytes",
		"auth: a hash has 64 hex digits and no other character"
	for _, c := range []struct {
		text string
		want string // the error; empty if it parses
	}{
		{lower, ""},
		{upper, ""},
		{lower[:32] + upper[32:], ""},
		{"", fmt.Sprintf(length, 0)},
		{lower[1:], fmt.Sprintf(length, 63)},
		{lower + "0", fmt.Sprintf(length, 65)},
		{lower + lower, fmt.Sprintf(length, 128)},
		{" " + lower, fmt.Sprintf(length, 65)},
		{lower + "\n", fmt.Sprintf(length, 65)},
		{"0x" + lower, fmt.Sprintf(length, 66)},
		{"0x" + lower[2:], digits},
		{lower[:63] + "g", digits},
		{lower[:63] + "\n", digits},
		{lower[:62] + "é", digits},
		{goodKey + goodKey[:16], digits},
	} {
		got, err := auth.ParseHash(c.text)
		if errorText(err) != c.want {
			t.Errorf("ParseHash(%q): %v, want %q", c.text, err, c.want)
		}
		var want auth.Hash
		if c.want == "" {
			want = goodHash
		}
		if got != want {
			t.Errorf("ParseHash(%q): %v, want %v", c.text, got, want)
		}

		// On an error UnmarshalText changes nothing.
		kept := auth.Hash{1, 2, 3}
		if c.want != "" {
			want = kept
		}
		if err := kept.UnmarshalText([]byte(c.text)); errorText(err) != c.want {
			t.Errorf("UnmarshalText(%q): %v, want %q", c.text, err, c.want)
		}
		if kept != want {
			t.Errorf("UnmarshalText(%q): %v, want %v", c.text, kept, want)
		}
	}
	text, err := json.Marshal(map[auth.Hash]auth.Hash{goodHash: goodHash})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"` + lower + `":"` + lower + `"}`; string(text) != want {
		t.Errorf("JSON: %s, want %s", text, want)
	}
	var back map[auth.Hash]auth.Hash
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if got := back[goodHash]; got != goodHash {
		t.Errorf("JSON and back: %v, want %v", got, goodHash)
	}
}
