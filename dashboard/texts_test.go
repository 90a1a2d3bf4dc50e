package dashboard_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/insigner/auth/dashboard"
	"github.com/insigner/auth/keyring"
)

// The table has every text that templates and code show, and no other.
func TestTexts(t *testing.T) {
	texts := dashboard.Texts()
	if !slices.IsSorted(texts) {
		t.Error("the texts are not sorted")
	}
	used := make(map[string]bool) // as texts
	literals := make(map[string]bool)
	files, err := filepath.Glob("templates/*.html")
	must(t, err)
	one := regexp.MustCompile(`\bT "([^"]+)"`)
	two := regexp.MustCompile(`\bCount [^"{}]*"([^"]+)" "([^"]+)"`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		for _, m := range append(one.FindAllStringSubmatch(string(text), -1), two.FindAllStringSubmatch(string(text), -1)...) {
			for _, s := range m[1:] {
				used[s] = true
			}
		}
	}
	files, err = filepath.Glob("*.go")
	must(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || file == "texts.go" {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		must(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if s, err := strconv.Unquote(n.Value); err == nil {
					literals[s] = true
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.SelectorExpr); ok && len(n.Args) > 0 && (f.Sel.Name == "text" || f.Sel.Name == "T") {
					if lit, ok := n.Args[0].(*ast.BasicLit); ok {
						s, _ := strconv.Unquote(lit.Value)
						used[s] = true
					}
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && (key.Name == "title" || key.Name == "detail") {
					if lit, ok := n.Value.(*ast.BasicLit); ok {
						s, _ := strconv.Unquote(lit.Value)
						used[s] = true
					}
				}
			}
			return true
		})
	}
	for s := range used {
		if !slices.Contains(texts, s) {
			t.Errorf("the table lacks %q", s)
		}
	}
	for _, s := range texts {
		if !used[s] && !literals[s] {
			t.Errorf("nothing shows %q", s)
		}
	}
}

// With a translation, no page shows an English text. Texts with arguments keep
// them.
func TestTranslation(t *testing.T) {
	asked := make(map[string]bool)
	s := newSite(t, func(o *dashboard.Options, k *keyring.Options) {
		k.MaxKeys = 3
		o.Text = func(_ *http.Request, english string) string {
			asked[english] = true
			if english == "en" {
				return "x-test"
			}
			return regexp.MustCompile(`%[sd]|[A-Za-z]`).ReplaceAllStringFunc(english, func(s string) string {
				if s[0] == '%' {
					return s
				}
				return "ж"
			})
		}
	})
	r := s.create(keyring.Spec{Name: "1", Scopes: nil})
	page := s.get("keys/" + r.ID).is(200).hasBody(`lang="x-test"`)
	if text := regexp.MustCompile(`[A-Za-z]{4,}`).FindString(strings.NewReplacer(r.ID, "", "Developers", "", "documents.read", "", "setup", "",
		"acme.example", "", "acme", "", r.Hint, "", "UTC", "", "isk_", "").Replace(page.text())); text != "" && !strings.Contains(r.Hint, text) {
		t.Errorf("the page has %q:\n%s", text, page.text())
	}
	for text := range asked {
		if !slices.Contains(dashboard.Texts(), text) {
			t.Errorf("it asks for %q, which Texts does not list", text)
		}
	}
}
