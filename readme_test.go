package auth_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/insigner/auth"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks returns the code blocks of the README in a language.
func blocks(t *testing.T, language string) (list []string) {
	for _, m := range regexp.MustCompile("(?ms)^```(\\w*)\n(.*?\n)```$").FindAllStringSubmatch(readme(t), -1) {
		if m[1] == language {
			list = append(list, m[2])
		}
	}
	return list
}

// goFiles returns the text of every Go file that is compiled and checked with the modules, this one aside.
func goFiles(t *testing.T) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")):
			return fs.SkipDir
		case filepath.Ext(path) == ".go" && path != "readme_test.go":
			text, err := os.ReadFile(path)
			if err == nil && !strings.Contains(string(text), "//go:build ignore") {
				files[path] = string(text)
			}
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// holds reports whether text has the lines of block, one after another, at some depth of indentation.
func holds(text, block string) bool {
	for depth := range 4 {
		indented := regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(block, strings.Repeat("\t", depth)+"$1")
		if strings.Contains("\n"+text, "\n"+indented) {
			return true
		}
	}
	return false
}

// TestReadmeGo: every Go block is a part of a file that is compiled, and a program is the whole of one.
func TestReadmeGo(t *testing.T) {
	files := goFiles(t)
	list := blocks(t, "go")
	if len(list) < 10 {
		t.Errorf("%d blocks", len(list))
	}
	for _, block := range list {
		found := false
		for _, text := range files {
			if strings.HasPrefix(block, "package ") {
				found = found || text == block
			} else {
				found = found || holds(text, block)
			}
		}
		if !found {
			t.Errorf("nothing that is compiled has these lines:\n%s", block)
		}
	}
}

func TestHolds(t *testing.T) {
	const text = "func f() {\n\tif x {\n\t\ty()\n\n\t\tz()\n\t}\n}\n"
	for block, want := range map[string]bool{
		"if x {\n\ty()\n": true,
		"y()\n\nz()\n":    true,
		"func f() {\n":    true,
		"y()\nz()\n":      false, // the empty line counts
		"if x {\ny()\n":   false, // the indentation too
		"f() {\n":         false, // whole lines only
		"y(\n":            false,
	} {
		if got := holds(text, block); got != want {
			t.Errorf("holds(%q) = %v", block, got)
		}
	}
}

// TestReadmeCommands: the two commands stand there, each alone.
func TestReadmeCommands(t *testing.T) {
	list := strings.Join(blocks(t, ""), "\x00")
	for _, command := range []string{"go run ./examples/quickstart\n", "go test work\n", "go get github.com/insigner/auth\n"} {
		if !strings.Contains("\x00"+list, "\x00"+command) {
			t.Errorf("no block is %q", command)
		}
	}
}

// TestReadmeErrors: the error table has the status and the code of each error, in the order of the decisions.
func TestReadmeErrors(t *testing.T) {
	var want []string
	for _, err := range []error{auth.ErrMissingKey, auth.ErrInvalidFormat, auth.ErrInvalidKey, auth.ErrKeyRevoked,
		auth.ErrKeyExpired, auth.ErrInsufficientScope, auth.ErrStoreUnavailable, nil} {
		p := auth.ProblemFor(err)
		want = append(want, fmt.Sprintf("| %d | `%s` |", p.Status, p.Code))
	}
	got := regexp.MustCompile("(?m)^\\| \\d+ \\| `[A-Z_]+` \\|").FindAllString(readme(t), -1)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the table has %v, want %v", got, want)
	}
}

// TestReadmeLinks: every relative link leads to a file.
func TestReadmeLinks(t *testing.T) {
	for _, m := range regexp.MustCompile(`\]\(([^):#]+)\)`).FindAllStringSubmatch(readme(t), -1) {
		if _, err := os.Stat(m[1]); err != nil {
			t.Error(err)
		}
	}
}

// TestReadmeScanner: the regular expression for secret scanners finds keys where they are found, and keys only.
func TestReadmeScanner(t *testing.T) {
	var pattern *regexp.Regexp
	for _, block := range blocks(t, "") {
		if strings.Contains(block, "isk_[") {
			pattern = regexp.MustCompile(strings.TrimSpace(block))
		}
	}
	if pattern == nil {
		t.Fatal("there is none")
	}
	keys := []string{goodKey, "isk_" + strings.Repeat("-_", 22), "isk_" + strings.Repeat("_-", 22)}
	for range 2000 {
		keys = append(keys, auth.NewKey().Reveal())
	}
	for _, key := range keys {
		for _, format := range []string{"%s", "Authorization: Bearer %s", `{"key":"%s"}`, "KEY=%s\n", "(%s)", "x %s.", "url?k=%s&a=b",
			"url?k=Bearer%%20%s", `"a\n%s\nb"`, `'%s',`, "<%s>", "\t%s\r\n", "%s é", "https://key:%s@host/"} {
			text := fmt.Sprintf(format, key)
			if m := pattern.FindStringSubmatch(text); m == nil || m[1] != key {
				t.Fatalf("not found in %q: %q", text, m)
			}
		}
		for _, text := range []string{key[:47], key + "x", key + "-", "x" + key, "r" + key, "_" + key, "isk-" + key[4:], strings.ToUpper(key[:4]) + key[4:]} {
			if m := pattern.FindString(text); m != "" && !strings.Contains(key[4:], "isk_") {
				t.Fatalf("found in %q: %q", text, m)
			}
		}
	}
}
