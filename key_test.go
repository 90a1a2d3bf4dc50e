package auth_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"unsafe"

	"github.com/insigner/auth"
)

func TestZeroKey(t *testing.T) {
	var k auth.Key
	if got := k.Reveal(); got != "" {
		t.Errorf("Reveal: %q, want nothing", got)
	}
	if got := k.Hint(); got != "" {
		t.Errorf("Hint: %q, want nothing", got)
	}
	if got := fmt.Sprintf("%v%+v%s%x%d", k, k, k, k, k); got != "" {
		t.Errorf("printed: %q, want nothing", got)
	}
	if got := k.LogValue().String(); got != "" {
		t.Errorf("LogValue: %q, want nothing", got)
	}
	if got, err := json.Marshal(k); string(got) != `""` || err != nil {
		t.Errorf(`JSON: %s, %v, want ""`, got, err)
	}
}

func TestHint(t *testing.T) {
	const any16, any20, any24 = "0123456789abcdef", "0123456789abcdefWXYZ", "0123456789abcdefghijWXYZ"
	for _, c := range []struct{ prefix, text, want string }{
		{"", goodKey, "isk_…U1v2"},
		{"isk_", goodKey, "isk_…U1v2"},
		{"acme_live_", "acme_live_" + goodKey[4:], "acme_live_…U1v2"},
		{"_", "_" + goodKey[4:], "_…U1v2"},

		// Keys that AlsoAccept takes: of a foreign prefix, nothing is shown.
		{"", "sk_live_" + strings.Repeat("a", 28) + "1234", "…1234"},
		{"acme_", "isk_" + goodKey[4:], "…U1v2"},
		{"", "ISK_" + goodKey[4:], "…U1v2"},
		{"sk_", "sk_live_" + strings.Repeat("a", 28) + "1234", "sk_…1234"},

		// A short key shows nothing, with or without the prefix.
		{"", "x", "…"},
		{"", "isk_", "…"},
		{"", any16, "…"},
		{"", any20 + "123", "…"},
		{"", any24, "…WXYZ"},
		{"", "isk_" + any16 + "123", "…"},
		{"", "isk_" + any20, "isk_…WXYZ"},

		// Characters count, not bytes.
		{"", strings.Repeat("é", 19) + "WXYZ", "…"},
		{"", strings.Repeat("é", 20) + "WXYZ", "…WXYZ"},

		// After a long prefix, too little of a key may be left to show some.
		{strings.Repeat("p", 31) + "_", strings.Repeat("p", 31) + "_", "…"},
		{strings.Repeat("p", 31) + "_", strings.Repeat("p", 31) + "_WXYZ", "…"},
		{strings.Repeat("p", 31) + "_", strings.Repeat("p", 31) + "_1234567WXYZ", "…"},
		{strings.Repeat("p", 31) + "_", strings.Repeat("p", 31) + "_12345678WXYZ", strings.Repeat("p", 31) + "_…WXYZ"},

		// An end that cannot be printed everywhere is not shown.
		{"", any24 + "é", "…"},
		{"", any24 + "éabc", "…"},
		{"", any24 + "éabcd", "…abcd"},
		{"", any24 + "ab d", "…"},
		{"", any24 + "abc\n", "…"},
		{"", any24 + "\x7fabc", "…"},
		{"", any24 + "abc\x00", "…"},
		{"", any24 + "abc\xff", "…"},
		{"", any24 + `"<>~`, `…"<>~`},
	} {
		anything := auth.Scheme{Prefix: c.prefix, AlsoAccept: func(string) bool { return true }}
		k, err := anything.ParseKey(c.text)
		if err != nil {
			t.Errorf("prefix %q: ParseKey(%q): %v", c.prefix, c.text, err)
			continue
		}
		if got := k.Hint(); got != c.want {
			t.Errorf("prefix %q: Hint of %q: %q, want %q", c.prefix, c.text, got, c.want)
		}
		if got := k.String(); got != c.want {
			t.Errorf("prefix %q: String of %q: %q, want %q", c.prefix, c.text, got, c.want)
		}
	}
}

func TestKeyPrintsAsHint(t *testing.T) {
	k := mustKey(goodKey)
	const hint = "isk_…U1v2"
	for _, verb := range "vsqxXdtbcoOeEfFgGUz" {
		if got := fmt.Sprintf("%"+string(verb), k); got != hint {
			t.Errorf("%%%c: %q, want %q", verb, got, hint)
		}
	}
	type element struct{ K auth.Key }
	inXML, byKey := element{k}, map[auth.Key]int{k: 1}
	for _, c := range []struct {
		name string
		text []byte
		err  error
		want string
	}{
		{"JSON", first(json.Marshal(k)), second(json.Marshal(k)), `"` + hint + `"`},
		{"JSON, pointer", first(json.Marshal(&k)), second(json.Marshal(&k)), `"` + hint + `"`},
		{"JSON, map key", first(json.Marshal(byKey)), second(json.Marshal(byKey)), `{"` + hint + `":1}`},
		{"XML", first(xml.Marshal(inXML)), second(xml.Marshal(inXML)), "<element><K>" + hint + "</K></element>"},
		{"text", first(k.MarshalText()), second(k.MarshalText()), hint},
	} {
		if string(c.text) != c.want || c.err != nil {
			t.Errorf("%s: %s, %v, want %s", c.name, c.text, c.err, c.want)
		}
	}
	logger, out := captureLog()
	logger.Info("m", "k", k, slog.Group("g", "k", &k))
	line := out.lines(t)[0]
	if got := line["k"]; got != hint {
		t.Errorf("slog: %v, want %s", got, hint)
	}
	if got := line["g"].(map[string]any)["k"]; got != hint {
		t.Errorf("slog, pointer in a group: %v, want %s", got, hint)
	}
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

// holders returns values that hold k.
func holders(k auth.Key) map[string]any {
	in := &holder{"n", k, &k, k, &k, k, []auth.Key{k}, [1]auth.Key{k},
		map[string]auth.Key{"k": k}, map[auth.Key]string{k: "k"}, nil}
	out := &holder{nested: in, any: in}
	return map[string]any{
		"key":             k,
		"pointer":         &k,
		"slice":           []auth.Key{k},
		"array":           [1]auth.Key{k},
		"map":             map[string]auth.Key{"k": k},
		"map by key":      map[auth.Key]int{k: 1},
		"pointers":        []*auth.Key{&k},
		"any":             []any{k, &k},
		"struct":          *in,
		"struct pointer":  in,
		"nested":          out,
		"nested value":    *out,
		"embedded":        struct{ auth.Key }{k},
		"hidden":          struct{ k auth.Key }{k},
		"hidden pointer":  struct{ k *auth.Key }{&k},
		"hidden any":      struct{ a any }{k},
		"hidden slice":    struct{ s []auth.Key }{[]auth.Key{k}},
		"hidden embedded": struct{ s struct{ auth.Key } }{struct{ auth.Key }{k}},
		"record and key": struct {
			r auth.Record
			k auth.Key
		}{goodRecord(), k},
		"error": fmt.Errorf("a %v, a %w, a %v", k, fmt.Errorf("inner %q %x", k, k), struct{ k auth.Key }{k}),
	}
}

func TestKeyDoesNotLeak(t *testing.T) {
	k := mustKey(goodKey)
	if !leaksAnyhow("x"+goodKey[6:14], goodKey) {
		t.Fatal("leaksAnyhow misses the text")
	}
	if !leaksAnyhow(fmt.Sprintf("%x", goodKey), goodKey) {
		t.Fatal("leaksAnyhow misses the hex digits")
	}
	if leaksAnyhow(k.Hint(), goodKey) {
		t.Fatal("leaksAnyhow finds a key in the hint")
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
		// These two refuse some of the types, or panic. Only what they wrote
		// counts.
		b.Reset()
		check("gob", panicOf(func() { gob.NewEncoder(&b).Encode(v) })+b.String())
		b.Reset()
		check("XML", panicOf(func() { xml.NewEncoder(&b).Encode(v) })+b.String())
		b.Reset()
		walk(&b, reflect.ValueOf(v), 0)
		check("reflection", b.String())
	}
}

// walk writes all that reflection reaches, as printers do that ignore the
// methods of what they print.
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
		for i := range v.Len() {
			if e := v.Index(i); e.Kind() == reflect.Uint8 {
				fmt.Fprintf(b, "%d ", e.Uint())
			} else {
				walk(b, e, depth+1)
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			walk(b, key, depth+1)
			walk(b, v.MapIndex(key), depth+1)
		}
	}
}

// TestKeyIsNotPointerShaped: an interface stores a struct of one pointer as
// that pointer. Printers that read unexported fields with package unsafe take
// it for the address of the struct, and end the process.
func TestKeyIsNotPointerShaped(t *testing.T) {
	word := unsafe.Sizeof(uintptr(0))
	for _, c := range []struct {
		name string
		size uintptr
	}{
		{"Key", unsafe.Sizeof(auth.Key{})},
		{"struct{Key}", unsafe.Sizeof(struct{ auth.Key }{})},
		{"struct{k Key}", unsafe.Sizeof(struct{ k auth.Key }{})},
		{"[1]Key", unsafe.Sizeof([1]auth.Key{})},
	} {
		if c.size <= word {
			t.Errorf("%s has %d bytes, want more than one word of %d", c.name, c.size, word)
		}
	}
	// What such a printer does: it reads the fields at the address that the
	// interface holds.
	k := mustKey(goodKey)
	v := any(k)
	data := (*[2]unsafe.Pointer)(unsafe.Pointer(&v))[1]
	if got := (*auth.Key)(data).Hint(); got != k.Hint() {
		t.Errorf("the Key that an interface points to has the Hint %q, want %q", got, k.Hint())
	}
}

// TestKeyInPanic panics with a key in another process and reads what the
// runtime prints.
func TestKeyInPanic(t *testing.T) {
	k := mustKey(goodKey)
	values := []any{k, &k, struct{ k auth.Key }{k}, fmt.Errorf("with %v", k), []auth.Key{k}}
	if i := os.Getenv("AUTH_TEST_PANIC"); i != "" {
		panic(values[i[0]-'0'])
	}
	for i := range values {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKeyInPanic$")
		cmd.Env = append(os.Environ(), "AUTH_TEST_PANIC="+strconv.Itoa(i))
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("value %d: the process did not fail", i)
		}
		if !bytes.Contains(out, []byte("panic: ")) {
			t.Errorf("value %d: the process did not panic", i)
		}
		if leaksAnyhow(string(out), goodKey) {
			t.Errorf("value %d: the panic prints the key", i)
		}
	}
}
