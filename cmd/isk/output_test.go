package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain – ü 日本 🔑":     "plain – ü 日本 🔑",
		"\x1b[31mred":        `\x1b[31mred`,
		"a\tb\r\nc\x00\x7f":  `a\tb\r\nc\x00\x7f`,
		"\u009b31m":          `\u009b31m`,
		"\u202eevil\u2066":   `\u202eevil\u2066`,
		"\u2028\u200b\ufeff": `\u2028\u200b\ufeff`,
		"bad \xff\xc3":       `bad \xff\xc3`,
		"\U000e0041":         `\U000e0041`,
		"\ufffd":             "\ufffd",
	} {
		if got := printable(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzJSON(f *testing.F) {
	f.Add("plain")
	f.Add("\u009b\u202e\U000e0041\x7f\x1b\"\\<>&")
	f.Fuzz(func(t *testing.T, text string) {
		encoded, err := encodeJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range string(encoded) {
			if !unicode.IsPrint(r) {
				t.Errorf("%q: %U is not escaped in %q", text, r, encoded)
			}
		}
		var decoded string
		if err := json.Unmarshal(encoded, &decoded); err != nil {
			t.Fatalf("%q: %v", encoded, err)
		}
		if decoded != strings.ToValidUTF8(text, "\ufffd") && decoded != string([]rune(text)) {
			t.Errorf("%q: becomes %q", text, decoded)
		}
	})
}

// TestTableStreams writes a long table: only a sample of it waits.
func TestTableStreams(t *testing.T) {
	var b bytes.Buffer
	table := &table{w: &b, aligned: true, titles: []string{"A", "B"}}
	for i := range tableSample {
		if err := table.add("x", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		if i < tableSample-1 && b.Len() > 0 {
			t.Fatalf("row %d is written before the widths are known", i)
		}
	}
	written := b.Len()
	if written == 0 {
		t.Fatal("nothing is written after the sample")
	}
	table.add("wider than the column", "y")
	if !strings.HasSuffix(b.String(), "\nwider than the column  y\n") {
		t.Errorf("a wide cell: %q", b.String()[written:])
	}
	if !strings.HasPrefix(b.String(), "A  B\nx  0\n") {
		t.Errorf("the heading: %q", b.String()[:20])
	}
	if table.end(); strings.Count(b.String(), "\n") != tableSample+2 {
		t.Errorf("%d lines", strings.Count(b.String(), "\n"))
	}
}

func TestProgress(t *testing.T) {
	for _, test := range []struct {
		name           string
		terminal, json bool
		want           string
	}{
		{"elsewhere", false, false, "1 of 9 keys\n11 of 9 keys\n"},
		{"terminal", true, false, "\r1 of 9 keys\x1b[K\r2 of 9 keys\x1b[K\r3 of 9 keys\x1b[K"},
		{"--json", true, true, ""},
	} {
		var b bytes.Buffer
		now := time.Unix(0, 0)
		a := &app{stderr: &b, now: func() time.Time { return now }, json: test.json}
		p := a.newProgress("%d of 9 keys")
		if test.terminal {
			p.terminal, p.interval = true, time.Second
		}
		now = now.Add(time.Second - 1)
		p.add(0)
		if b.Len() > 0 {
			t.Errorf("%s: something is shown before a second has passed: %q", test.name, &b)
		}
		now = now.Add(1)
		for range 12 {
			p.add(1)
			p.add(0)
			now = now.Add(time.Second)
		}
		if got := b.String(); !strings.HasPrefix(got, test.want) || !test.terminal && got != test.want || test.json && got != "" {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
		p.clear()
		if got := b.String(); test.terminal && !test.json && !strings.HasSuffix(got, "\r\x1b[K") {
			t.Errorf("%s: the line stays: %q", test.name, got)
		}
	}
}

func TestSecretsAreStruckOut(t *testing.T) {
	var s secrets
	s.add("s3cr3t/@ ")
	s.add("pw")
	for text, want := range map[string]string{
		"the password s3cr3t/@  is bad":                 "the password xxxxx is bad",
		"s3cr3t%2F%40+ and s3cr3t%2F@%20":               "xxxxx and xxxxx",
		"postgres://u:pw@host/db":                       "postgres://u:xxxxx@host/db",
		"postgres://u:a@b@host/db":                      "postgres://u:xxxxx@host/db",
		`parse "postgres://u:a b@h/db": invalid`:        `parse "postgres://u:a b@h/db": invalid`,
		"host=h password=pw user=u":                     "host=h password=xxxxx user=u",
		`host=h password='p w\' x' user=u`:              "host=h password=xxxxx user=u",
		"h?sslpassword=pw&sslmode=x":                    "h?sslpassword=xxxxx&sslmode=x",
		"PASSWORD = pw":                                 "PASSWORD = xxxxx",
		`password authentication failed for user "pw"`:  `password authentication failed for user "pw"`,
		"https://docs.example.com/errors/":              "https://docs.example.com/errors/",
		"user=staff database=api: dial tcp 127.0.0.1:1": "user=staff database=api: dial tcp 127.0.0.1:1",
	} {
		if got := s.strike(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// TestMessagesAreSafe writes messages that hold secrets.
func TestMessagesAreSafe(t *testing.T) {
	const key = "isk_0123456789012345678901234567890123456789abcd"
	for _, json := range []bool{false, true} {
		var b bytes.Buffer
		a := newApp(strings.NewReader(""), io.Discard, &b, func(string) string { return "" })
		a.keys, a.json = newKeyFinder(""), json
		a.secrets.add("s3cr3t")
		text := "with s3cr3t and\n\t" + key + " and \x1b[31m"
		a.say("%s", text)
		a.warn("%s", text)
		code := a.end(t.Context(), errors.New(text))
		if code != exitFailed {
			t.Errorf("--json %v: exit code %d, want 1", json, code)
		}
		got := b.String()
		for _, bad := range []string{"s3cr3t", key, "\x1b", "\t"} {
			if strings.Contains(got, bad) {
				t.Errorf("--json %v: %q is in %q", json, bad, got)
			}
		}
		if want := map[bool]int{false: 3, true: 1}[json]; strings.Count(got, "\n") != want {
			t.Errorf("--json %v: %d lines, want %d: %q", json, strings.Count(got, "\n"), want, got)
		}
	}
}
