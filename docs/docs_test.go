// Package docs tests the Markdown files of the repository.
package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/insigner/auth"
)

const root = ".."

// files returns the text of each file under the root with that extension, by
// its path from there.
func files(t *testing.T, extension string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && path != root && (name == "testdata" || name == ".git" || strings.HasPrefix(name, "_")) {
			return fs.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != extension {
			return nil
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(root, path)
		all[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var fence = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?\n)```$")

// blocks returns the code blocks of a text in a language.
func blocks(text, language string) (list []string) {
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		if m[1] == language {
			list = append(list, m[2])
		}
	}
	return list
}

// holds reports whether text has the lines of block, one after another, at some
// depth of indentation.
func holds(text, block string) bool {
	for depth := range 5 {
		indented := regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(block, strings.Repeat("\t", depth)+"$1")
		if strings.Contains("\n"+text, "\n"+indented) {
			return true
		}
	}
	return false
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
			t.Errorf("holds(%q) is %v, want %v", block, got, want)
		}
	}
}

// TestGoBlocks checks that each Go block is part of a file that is compiled, and
// that a whole program is a whole file.
func TestGoBlocks(t *testing.T) {
	code := files(t, ".go")
	for page, text := range files(t, ".md") {
		for _, block := range blocks(text, "go") {
			found := false
			for _, file := range code {
				if strings.HasPrefix(block, "package ") {
					found = found || file == block
				} else {
					found = found || holds(file, block)
				}
			}
			if !found {
				t.Errorf("%s: no Go file has these lines:\n%s", page, block)
			}
		}
	}
}

var link = regexp.MustCompile(`\]\(([^):#]*)(#[^)]*)?\)`)

// TestLinks checks that each relative link leads to a file, and to a heading of
// it if it names one.
func TestLinks(t *testing.T) {
	for page, text := range files(t, ".md") {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			target := filepath.Join(root, page)
			if m[1] != "" {
				target = filepath.Join(root, filepath.Dir(page), m[1])
			}
			linked, err := os.ReadFile(target)
			if err != nil && m[2] == "" {
				_, err = os.Stat(target) // a directory
			}
			if err != nil {
				t.Errorf("%s links to %s: %v", page, m[0], err)
				continue
			}
			if m[2] != "" && !strings.Contains(anchors(string(linked)), m[2]+"\n") {
				t.Errorf("%s links to %s, which has no such heading", page, m[0])
			}
		}
	}
}

// anchors returns the anchors of the headings of a text, one on each line.
func anchors(text string) string {
	var b strings.Builder
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		fmt.Fprintln(&b, "#"+strings.ReplaceAll(name, " ", "-"))
	}
	return b.String()
}

// TestWidth checks that prose is wrapped at 80 columns. Code, tables and links
// may be longer.
func TestWidth(t *testing.T) {
	for page, text := range files(t, ".md") {
		if page == "LICENSE.md" {
			continue
		}
		for _, line := range strings.Split(fence.ReplaceAllString(text, ""), "\n") {
			if n := utf8.RuneCountInString(line); n > 80 && !strings.HasPrefix(line, "|") && !strings.Contains(line, "](") {
				t.Errorf("%s: %d columns: %s", page, n, line)
			}
		}
	}
}

// TestCommands checks that the README shows the commands of a newcomer, each in
// a block of its own.
func TestCommands(t *testing.T) {
	list := strings.Join(blocks(files(t, ".md")["README.md"], ""), "\x00")
	for _, command := range []string{"go run ./examples/quickstart\n", "go test work\n", "go get github.com/insigner/auth\n"} {
		if !strings.Contains("\x00"+list, "\x00"+command) {
			t.Errorf("the README has no block %q", command)
		}
	}
}

// TestErrorTable checks that the README lists each error's status and code, in
// the order of the decisions.
func TestErrorTable(t *testing.T) {
	var want []string
	for _, err := range []error{auth.ErrMissingKey, auth.ErrInvalidFormat, auth.ErrInvalidKey, auth.ErrKeyRevoked,
		auth.ErrKeyDisabled, auth.ErrKeyExpired, auth.ErrInsufficientScope, auth.ErrStoreUnavailable, nil} {
		p := auth.ProblemFor(err)
		want = append(want, fmt.Sprintf("| %d | `%s` |", p.Status, p.Code))
	}
	got := regexp.MustCompile("(?m)^\\| \\d+ \\| `[A-Z_]+` \\|").FindAllString(files(t, ".md")["README.md"], -1)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the table has %v, want %v", got, want)
	}
}

// scanner returns the pattern for secret scanners.
func scanner(t *testing.T) *regexp.Regexp {
	t.Helper()
	for _, block := range blocks(files(t, ".md")["docs/security.md"], "") {
		if strings.Contains(block, "isk_[") {
			return regexp.MustCompile(strings.TrimSpace(block))
		}
	}
	t.Fatal("docs/security.md has no pattern for scanners")
	return nil
}

// scanned returns keys of many shapes: the random part may begin and end with
// any character.
func scanned() []string {
	keys := []string{"isk_" + strings.Repeat("-_", 22), "isk_" + strings.Repeat("_-", 22)}
	for range 1000 {
		keys = append(keys, auth.Scheme{}.NewKey().Reveal())
	}
	return keys
}

func TestScannerFindsOneKey(t *testing.T) {
	pattern := scanner(t)
	for _, key := range scanned() {
		for _, format := range []string{
			"%s", "Authorization: Bearer %s", `{"key":"%s"}`, "KEY=%s\n", "(%s)", "x %s.", "url?k=%s&a=b",
			"url?k=Bearer%%20%s", `"a\n%s\nb"`, `'%s',`, "<%s>", "\t%s\r\n", "%s é", "https://key:%s@host/",
			`"a\u0026%s\u0026b"`, "\x1b[31m%s\x1b[0m", `\x1b[1;31m%s\x1b[0m`, `\x00%s`,
		} {
			text := fmt.Sprintf(format, key)
			if m := pattern.FindStringSubmatch(text); m == nil {
				t.Fatalf("no key is found in %q", text)
			} else if m[1] != key {
				t.Fatalf("in %q %q is found", text, m[1])
			}
		}
	}
}

// TestScannerFindsNeighbors checks lists in which each match could consume the
// boundary of the next key.
func TestScannerFindsNeighbors(t *testing.T) {
	pattern := scanner(t)
	keys := scanned()
	for _, separator := range []string{",", " ", "\n", "\r\n", "\t", ";", "|", `\n`, `\r\n`, `\t`, "%0A", "%2C", `\u000a`,
		"\x1b[0m", "\x1b[31m", `\x1b[0m`, `","`, "\x00", "/", "=", "é"} {
		got := 0
		for _, m := range pattern.FindAllStringSubmatch(strings.Join(keys, separator), -1) {
			if m[1] == keys[got] {
				got++
			}
		}
		if got != len(keys) {
			t.Errorf("of %d keys separated by %q, %d are found", len(keys), separator, got)
		}
	}
}

func TestScannerFindsNothingElse(t *testing.T) {
	pattern := scanner(t)
	for _, key := range scanned() {
		if strings.Contains(key[4:], "isk_") {
			continue
		}
		for _, text := range []string{key[:47], key + "x", "x" + key, "r" + key, "_" + key, "-" + key, "isk-" + key[4:], "ISK_" + key[4:]} {
			if m := pattern.FindString(text); m != "" {
				t.Fatalf("in %q %q is found", text, m)
			}
		}
	}
}

// TestRecipes checks that the index lists each recipe once, and that each page
// links to its program.
func TestRecipes(t *testing.T) {
	all := files(t, ".md")
	index := all["docs/recipes/README.md"]
	for page, text := range all {
		name, ok := strings.CutPrefix(strings.TrimSuffix(page, ".md"), "docs/recipes/")
		if !ok || name == "README" {
			continue
		}
		if n := strings.Count(index, "("+name+".md)"); n != 1 {
			t.Errorf("the index lists %s %d times, want once", name, n)
		}
		if link := "(../../examples/recipes/" + name + "/"; !strings.Contains(text, link) {
			t.Errorf("%s does not link to its program", page)
		}
	}
}
