package recipes_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const pagesDir = "../../docs/recipes"

// pages returns the text of each page by the name of its recipe, and that of
// the index as "README".
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	paths, err := filepath.Glob(filepath.Join(pagesDir, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(path), ".md")] = string(text)
	}
	return all
}

// recipes returns the names of the directories that hold a recipe.
func recipes(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() && entry.Name() != "internal" {
			names = append(names, entry.Name())
		}
	}
	return names
}

// sources returns the files of a recipe.
func sources(t *testing.T, name string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(name, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, string(text))
	}
	return list
}

var fence = regexp.MustCompile("(?ms)^```(go|yaml)\n(.*?\n)```$")

// holds reports whether text has the lines of block, one after another, at some
// depth of indentation.
func holds(text, block string) bool {
	for _, indent := range []string{"", "\t", "\t\t", "\t\t\t", "  ", "    "} {
		indented := regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(block, indent+"$1")
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

// TestBlocks checks that the code of each page is in the recipe of that name,
// which is compiled and tested.
func TestBlocks(t *testing.T) {
	for name, page := range pages(t) {
		if name == "README" {
			continue
		}
		files := sources(t, name)
		blocks := fence.FindAllStringSubmatch(page, -1)
		if len(blocks) == 0 {
			t.Errorf("%s.md has no code", name)
		}
		for _, block := range blocks {
			if !slices.ContainsFunc(files, func(text string) bool { return holds(text, block[2]) }) {
				t.Errorf("%s.md: no file in %s has these lines:\n%s", name, name, block[2])
			}
		}
	}
}

// TestIndex checks that each recipe has a page, each page has a recipe, and the
// index lists each once.
func TestIndex(t *testing.T) {
	all, names := pages(t), recipes(t)
	for _, name := range names {
		if all[name] == "" {
			t.Errorf("%s has no page", name)
		}
		if n := strings.Count(all["README"], "("+name+".md)"); n != 1 {
			t.Errorf("the index lists %s %d times, want once", name, n)
		}
		if link := "(../../examples/recipes/" + name + "/"; !strings.Contains(all[name], link) {
			t.Errorf("%s.md does not link to its recipe", name)
		}
	}
	for name := range all {
		if name != "README" && !slices.Contains(names, name) {
			t.Errorf("%s.md has no recipe", name)
		}
	}
}
