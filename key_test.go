package auth_test

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"text/template"

	"github.com/insigner/auth"
)

func mustParse(s string) auth.Key {
	k, err := auth.ParseKey(s)
	if err != nil {
		panic(err)
	}
	return k
}

func TestNewKey(t *testing.T) {
	for _, c := range []struct {
		prefix string
		make   func() auth.Key
	}{
		{"isk_", auth.NewKey},
		{"isk_", auth.KeyFormat{}.NewKey},
		{"acme_live_", auth.KeyFormat{Prefix: "acme_live_"}.NewKey},
		{"_", auth.KeyFormat{Prefix: "_"}.NewKey},
		{strings.Repeat("x", 31) + "_", auth.KeyFormat{Prefix: strings.Repeat("x", 31) + "_"}.NewKey},
	} {
		form := regexp.MustCompile(`\A` + c.prefix + `[A-Za-z0-9_-]{44}\z`)
		seen := make(map[string]bool)
		var chars [256]int
		for range 2000 {
			k := c.make()
			if s := k.Reveal(); !form.MatchString(s) || seen[s] {
				t.Fatalf("a key of another form than %s, or twice", form)
			} else if got, err := (auth.KeyFormat{Prefix: c.prefix}).ParseKey(s); err != nil || got.Reveal() != s {
				t.Fatalf("it does not parse: %v", err)
			} else {
				seen[s] = true
				for _, b := range []byte(s[len(c.prefix):]) {
					chars[b]++
				}
			}
			if want := c.prefix + "…" + k.Reveal()[len(k.Reveal())-4:]; k.Hint() != want {
				t.Fatalf("hint %q, want %q", k.Hint(), want)
			}
		}
		for _, b := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
			if n := chars[b]; n < 1375-400 || n > 1375+400 { // 2000*44/64, give or take eleven standard deviations
				t.Errorf("%q came %d times, want about 1375", b, n)
			}
		}
	}
}

func TestParseKey(t *testing.T) {
	for _, c := range []struct {
		prefix, text string
		want         error
	}{
		{"", goodKey, nil},
		{"isk_", goodKey, nil},
		{"", "isk_" + strings.Repeat("-", 44), nil},
		{"acme_live_", "acme_live_" + goodKey[4:], nil},
		{"acme_live_", goodKey, auth.ErrInvalidFormat},
		{"acme_live_", "acme_test_" + goodKey[4:], auth.ErrInvalidFormat},
		{"acme_", "acme_live_" + goodKey[4:], auth.ErrInvalidKey},
		{"", "acme_live_" + goodKey[4:], auth.ErrInvalidFormat},
		{"", "", auth.ErrInvalidFormat},
		{"", "isk", auth.ErrInvalidFormat},
		{"", "ISK_" + goodKey[4:], auth.ErrInvalidFormat},
		{"", " " + goodKey, auth.ErrInvalidFormat},
		{"", "isk_", auth.ErrInvalidKey},
		{"", goodKey + " ", auth.ErrInvalidKey},
		{"", goodKey + "\n", auth.ErrInvalidKey},
		{"", goodKey[:47], auth.ErrInvalidKey},
		{"", goodKey + "x", auth.ErrInvalidKey},
		{"", goodKey[:47] + "=", auth.ErrInvalidKey},
		{"", goodKey[:47] + "+", auth.ErrInvalidKey},
		{"", goodKey[:47] + "/", auth.ErrInvalidKey},
		{"", goodKey[:46] + "é", auth.ErrInvalidKey},
		{"", "isk_…U1v2", auth.ErrInvalidKey},
	} {
		k, err := auth.KeyFormat{Prefix: c.prefix}.ParseKey(c.text)
		if err != c.want || err == nil && k.Reveal() != c.text || err != nil && (k != auth.Key{} || leaks(err.Error(), goodKey)) {
			t.Errorf("%q: ParseKey(%q): %v, want %v", c.prefix, c.text, err, c.want)
		}
	}
	// Any byte in any place.
	for i := len(auth.Prefix); i < len(goodKey); i++ {
		for c := range 256 {
			text := goodKey[:i] + string([]byte{byte(c)}) + goodKey[i+1:]
			var want error
			if strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", byte(c)) < 0 {
				want = auth.ErrInvalidKey
			}
			if _, err := auth.ParseKey(text); err != want {
				t.Errorf("ParseKey(%q): %v, want %v", text, err, want)
			}
		}
	}
	if k, err := auth.ParseKey(goodKey); err != nil || k.Reveal() != goodKey || k.Hint() != "isk_…U1v2" {
		t.Errorf("%v, %v", k, err)
	}
	var zero auth.Key
	if zero.Reveal() != "" || zero.Hint() != "" || fmt.Sprint(zero) != "" {
		t.Errorf("the zero Key reveals %q, hints %q", zero.Reveal(), zero.Hint())
	}
}

// leaksAnyhow is leaks, in whatever spelling fmt and the encoders know.
func leaksAnyhow(text, key string) bool {
	for i := len(auth.Prefix); i+8 <= len(key); i++ {
		run := key[i : i+8]
		for _, form := range []string{run, fmt.Sprintf("%x", run), fmt.Sprintf("%X", run), fmt.Sprintf("% x", run), fmt.Sprintf("% X", run),
			strings.Trim(fmt.Sprint([]byte(run)), "[]"), strings.Trim(fmt.Sprintf("%#v", []byte(run)), "[]byte{}")} {
			if strings.Contains(text, form) {
				return true
			}
		}
	}
	return false
}

type holder struct {
	Name    string
	Key     auth.Key
	Pointer *auth.Key
	hidden  auth.Key
	pointer *auth.Key
	any     any
	slice   []auth.Key
	array   [1]auth.Key
	byName  map[string]auth.Key
	byKey   map[auth.Key]string
	nested  *holder
}

// holders puts k where somebody may forget it.
func holders(k auth.Key) map[string]any {
	in := &holder{"n", k, &k, k, &k, k, []auth.Key{k}, [1]auth.Key{k}, map[string]auth.Key{"k": k}, map[auth.Key]string{k: "k"}, nil}
	out := &holder{nested: in, any: in}
	return map[string]any{
		"key": k, "pointer": &k, "slice": []auth.Key{k}, "array": [1]auth.Key{k}, "map": map[string]auth.Key{"k": k},
		"map by key": map[auth.Key]int{k: 1}, "pointers": []*auth.Key{&k}, "any": []any{k, &k}, "struct": *in, "struct pointer": in,
		"nested": out, "nested value": *out, "embedded": struct{ auth.Key }{k}, "hidden": struct{ k auth.Key }{k},
		"hidden pointer": struct{ k *auth.Key }{&k}, "hidden any": struct{ a any }{k}, "hidden slice": struct{ s []auth.Key }{[]auth.Key{k}},
		"grant and key": struct {
			g auth.Record
			k auth.Key
		}{goodRecord(), k},
		"error": fmt.Errorf("a %v, a %w, a %v", k, fmt.Errorf("inner %q %x", k, k), struct{ k auth.Key }{k}),
	}
}

func TestKeyDoesNotLeak(t *testing.T) {
	k := mustParse(goodKey)
	if !leaksAnyhow("x"+goodKey[6:14], goodKey) || !leaksAnyhow(fmt.Sprintf("%x", goodKey), goodKey) || leaksAnyhow(k.Hint(), goodKey) {
		t.Fatal("leaksAnyhow does not work")
	}
	for name, v := range holders(k) {
		check := func(how, text string) {
			if leaksAnyhow(text, goodKey) {
				t.Errorf("%s by %s leaks the key", name, how)
			}
		}
		for _, flags := range []string{"", "+", "#", " ", "0", "-", "+#", "# ", "60", ".60"} {
			for _, verb := range "vTtbcdoOqxXUeEfFgGspw!z" {
				format := "%" + flags + string(verb)
				check(format, fmt.Sprintf(format, v))
			}
		}
		check("Sprintln", fmt.Sprintln(v, &v))
		var b bytes.Buffer
		slog.New(slog.NewTextHandler(&b, nil)).Info("m", "k", v, slog.Group("g", "k", v))
		slog.New(slog.NewJSONHandler(&b, nil)).With("w", v).Info("m", "k", v, slog.Group("g", "k", v))
		log.New(&b, "", 0).Print(v)
		check("log", b.String())
		text, _ := json.Marshal(v)
		check("JSON", string(text))
		b.Reset()
		template.Must(template.New("").Parse(`{{.}}{{printf "%x" .}}{{js .}}`)).Execute(&b, v)
		check("template", b.String())
		// These two refuse some of the types, or panic; only what they wrote counts.
		b.Reset()
		check("gob", panicOf(func() { gob.NewEncoder(&b).Encode(v) })+b.String())
		b.Reset()
		check("XML", panicOf(func() { xml.NewEncoder(&b).Encode(v) })+b.String())
		b.Reset()
		walk(&b, reflect.ValueOf(v), 0)
		check("reflection", b.String())
	}
}

// walk writes all that reflection reaches, as debuggers' printers do that ignore the methods of what they print.
func walk(b *bytes.Buffer, v reflect.Value, depth int) {
	if depth > 12 || !v.IsValid() {
		return
	}
	switch v.Kind() {
	case reflect.String:
		b.WriteString(v.String())
	case reflect.Pointer, reflect.Interface:
		walk(b, v.Elem(), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			walk(b, v.Field(i), depth+1)
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			fmt.Fprint(b, v.Len())
			return
		}
		for i := range v.Len() {
			walk(b, v.Index(i), depth+1)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			walk(b, key, depth+1)
			walk(b, v.MapIndex(key), depth+1)
		}
	}
}

func TestKeyShowsHint(t *testing.T) {
	k := mustParse(goodKey)
	const hint = "isk_…U1v2"
	for _, verb := range "vsqxXdtbcoOeEfgGU" {
		if got := fmt.Sprintf("%"+string(verb), k); got != hint {
			t.Errorf("%%%c: %q, want the hint", verb, got)
		}
	}
	text, err := json.Marshal(map[auth.Key]*auth.Key{k: &k})
	if want := `{"` + hint + `":"` + hint + `"}`; string(text) != want || err != nil {
		t.Errorf("JSON: %s, %v, want %s", text, err, want)
	}
	type element struct{ K auth.Key }
	if text, err = xml.Marshal(element{k}); err != nil || !strings.Contains(string(text), "<K>"+hint+"</K>") {
		t.Errorf("XML: %s, %v", text, err)
	}
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("m", "k", k)
	if !strings.HasSuffix(b.String(), " k="+hint+"\n") && !strings.HasSuffix(b.String(), ` k="`+hint+"\"\n") {
		t.Errorf("slog: %s", b.String())
	}
}

// TestKeyPanic panics with a key in another process and reads what the runtime prints.
func TestKeyPanic(t *testing.T) {
	k := mustParse(goodKey)
	values := []any{k, &k, struct{ k auth.Key }{k}, fmt.Errorf("with %v", k), []auth.Key{k}}
	if i := os.Getenv("AUTH_TEST_PANIC"); i != "" {
		panic(values[i[0]-'0'])
	}
	for i := range values {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKeyPanic$")
		cmd.Env = append(os.Environ(), "AUTH_TEST_PANIC="+itoa(i))
		out, err := cmd.CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte("panic: ")) || leaksAnyhow(string(out), goodKey) {
			t.Errorf("panic %d: %v, or it leaks", i, err)
		}
	}
}

func TestHashers(t *testing.T) {
	count := func(n int) []byte { // 00 01 02 …, the keys of the official BLAKE2 test vectors
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i)
		}
		return b
	}
	for _, c := range []struct {
		name   string
		hasher auth.Hasher
		input  string
		want   string
	}{
		{"BLAKE2b-256 of nothing", auth.BLAKE2b(nil), "", "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"},
		{"BLAKE2b-256", auth.BLAKE2b(nil), "abc", "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"},
		{"BLAKE2b-256 of a key", auth.BLAKE2b(nil), goodKey, "dab1a808d67525010145e418f193a0ad5d172ddecb74fd889be4ddf415d4f8ed"},
		{"BLAKE2b-256, long", auth.BLAKE2b(nil), strings.Repeat("a", 200), "6b6e59aaf00eb730cf93de53560846722184bbd92f8368c21ffa95380c2f9fe6"},
		{"BLAKE2b-256, 1 byte", auth.BLAKE2b(count(1)), goodKey, "2e676cf369afa5d82c637e056a53a74184f1635d8514afcd3325c36b5f349249"},
		{"BLAKE2b-256, 32 bytes", auth.BLAKE2b(count(32)), goodKey, "babb4a3f06a5395d6183b1302318fc350431c5f3027357eddc2eabc13b42813b"},
		{"BLAKE2b-256, 64 bytes", auth.BLAKE2b(count(64)), goodKey, "34d15d98fe93e3a8686aae345f8a6adcfff35994987f3b3cfd88d6c3ba14fedc"},
		{"BLAKE2b-256, keyed, long", auth.BLAKE2b(count(32)), strings.Repeat("a", 200), "35ce8d4227f3bcc8b2df8e2773e495b410d8484e2ee119d7ca34e1da452ebb57"},
		{"SHA-256", auth.SHA256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}, // FIPS 180-4
		{"SHA-256 of a key", auth.SHA256, goodKey, "7c3cf4722ff7e8594ea841c00201aafca39f2399928dac4f13d5df79f794f1cf"},
		{"SHA-256, long", auth.SHA256, strings.Repeat("a", 200), "c2a908d98f5df987ade41b5fce213067efbcc21ef2240212a41e54b5e7c28ae5"},
		{"RFC 4231, 1", auth.HMACSHA256(bytes.Repeat([]byte{0x0b}, 20)), "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		{"RFC 4231, 2", auth.HMACSHA256([]byte("Jefe")), "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{"RFC 4231, 6", auth.HMACSHA256(bytes.Repeat([]byte{0xaa}, 131)), "Test Using Larger Than Block-Size Key - Hash Key First",
			"60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
		{"HMAC-SHA-256 of a key", auth.HMACSHA256(count(32)), goodKey, "41d549adbeeb1c3997e29d0f7039e4faac68a5ad3558073aa3dc50b992f2befc"},
	} {
		for range 3 { // the second and third with a state of the pool
			if got := c.hasher(c.input).String(); got != c.want {
				t.Errorf("%s: %s, want %s", c.name, got, c.want)
			}
		}
	}
}

// TestHashersConcurrent: states of the pool are not shared, and none keeps what another left.
func TestHashersConcurrent(t *testing.T) {
	pepper := []byte("0123456789abcdef")
	for name, h := range map[string]auth.Hasher{"BLAKE2b": auth.BLAKE2b(nil), "keyed BLAKE2b": auth.BLAKE2b(pepper),
		"SHA256": auth.SHA256, "HMACSHA256": auth.HMACSHA256(pepper)} {
		inputs := []string{goodKey, goodKey[:10], strings.Repeat("long", 100), ""}
		var want []auth.Hash
		for _, in := range inputs {
			want = append(want, h(in))
		}
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 500 {
					if n := (i + g) % len(inputs); h(inputs[n]) != want[n] {
						t.Errorf("%s: another hash of the same text", name)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestPepper(t *testing.T) {
	for name, keyed := range map[string]func([]byte) auth.Hasher{"BLAKE2b": auth.BLAKE2b, "HMACSHA256": auth.HMACSHA256} {
		pepper := []byte("a pepper of some thirty bytes ..")
		h := keyed(pepper)
		want := keyed([]byte("a pepper of some thirty bytes .."))(goodKey)
		pepper[0] = 'x' // before the first use: the pepper was copied
		if h(goodKey) != want {
			t.Errorf("%s: the hash changed with the caller's slice", name)
		}
		if keyed(pepper)(goodKey) == want {
			t.Errorf("%s: two peppers, one hash", name)
		}
	}
	for _, c := range []struct {
		call func()
		want string
	}{
		{func() { auth.BLAKE2b([]byte{}) }, "auth.BLAKE2b: the pepper is empty; pass nil to hash without one"},
		{func() { auth.BLAKE2b(make([]byte, 65)) }, "auth.BLAKE2b: the pepper has 65 bytes; at most 64 (RFC 7693 section 2.1)"},
		{func() { auth.HMACSHA256(nil) }, "auth.HMACSHA256: the pepper is empty; use auth.SHA256 to hash without one"},
		{func() { auth.HMACSHA256([]byte{}) }, "auth.HMACSHA256: the pepper is empty; use auth.SHA256 to hash without one"},
		{func() { auth.HMACSHA256(make([]byte, 1000)) }, ""},
		{func() { auth.BLAKE2b(make([]byte, 64)) }, ""},
	} {
		if got := panicOf(c.call); got != c.want {
			t.Errorf("panic %q, want %q", got, c.want)
		}
	}
}

func TestHash(t *testing.T) {
	h := goodHash
	lower := h.String()
	upper := strings.ToUpper(lower)
	for _, verb := range []string{"v", "+v", "#v", "s", "d", "x", "X", "q"} {
		if got := fmt.Sprintf("%"+verb, h); got != lower {
			t.Errorf("%%%s: %s, want %s", verb, got, lower)
		}
	}
	for _, c := range []struct {
		text string
		want string // empty: parses
	}{
		{lower, ""},
		{upper, ""},
		{lower[:32] + upper[32:], ""},
		{"", "auth: a hash is 64 hex digits, not 0 bytes"},
		{lower[1:], "auth: a hash is 64 hex digits, not 63 bytes"},
		{lower + "0", "auth: a hash is 64 hex digits, not 65 bytes"},
		{lower + lower, "auth: a hash is 64 hex digits, not 128 bytes"},
		{"0x" + lower, "auth: a hash is 64 hex digits, not 66 bytes"},
		{"0x" + lower[2:], "auth: a hash is 64 hex digits; there is another character among these"},
		{lower[:63] + "g", "auth: a hash is 64 hex digits; there is another character among these"},
		{goodKey + goodKey[:16], "auth: a hash is 64 hex digits; there is another character among these"},
	} {
		got, err := auth.ParseHash(c.text)
		if errorText(err) != c.want || (c.want == "") != (got == h) || c.want != "" && got != (auth.Hash{}) {
			t.Errorf("ParseHash(%q): %v, %v, want %q", c.text, got, err, c.want)
		}
		kept := h
		if err := kept.UnmarshalText([]byte(c.text)); kept != h || errorText(err) != c.want {
			t.Errorf("UnmarshalText(%q): %v, %v", c.text, kept, err)
		}
	}
	text, err := json.Marshal(map[auth.Hash]auth.Hash{h: h})
	var back map[auth.Hash]auth.Hash
	if err != nil || string(text) != `{"`+lower+`":"`+lower+`"}` || json.Unmarshal(text, &back) != nil || back[h] != h {
		t.Errorf("JSON: %s, %v, %v", text, err, back)
	}
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("m", "h", h)
	if s := b.String(); !strings.Contains(s, lower[:8]+"…") || strings.Contains(s, lower[8:16]) {
		t.Errorf("slog: %s", s)
	}
	if raw, _ := hex.DecodeString(lower); !bytes.Equal(raw, h[:]) {
		t.Error("String is not the bytes in hex")
	}
}
