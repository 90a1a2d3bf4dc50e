package dashboard_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth/integration/dashboard/browser"
	"github.com/insigner/auth/integration/dashboard/example"
)

// What all tests share: the browser, and the program.
var (
	chromium *browser.Browser
	program  string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if chromium, err = browser.Open(); err != nil {
		if errors.Is(err, browser.ErrNone) {
			fmt.Println("the pages are not tested in a browser:", err)
			return 0
		}
		fmt.Println(err)
		return 1
	}
	defer chromium.Close()
	dir, err := os.MkdirTemp("", "dashboard")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	if program, err = example.Build(dir); err != nil {
		fmt.Println(err)
		return 1
	}
	return m.Run()
}

// start starts the program with its demonstration data, and returns its URL.
func start(t *testing.T) string {
	t.Helper()
	p, err := example.Start(program, t.TempDir())
	must(t, err)
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	return p.URL
}

// A tab is a page in a test, which it fails if something goes wrong.
type tab struct {
	*browser.Page
	t   *testing.T
	url string // of the program
}

// open opens a tab. At the end, the console must have said nothing, and all
// requests must have gone to the program.
func open(t *testing.T, url string, opts browser.Options) *tab {
	t.Helper()
	p, err := chromium.Open(opts)
	must(t, err)
	t.Cleanup(func() {
		for _, problem := range p.Problems() {
			t.Errorf("the console says: %s", problem)
		}
		for _, request := range p.Requests() {
			if !strings.HasPrefix(request, url) && !strings.HasPrefix(request, "data:") { // with which Chromium draws inputs
				t.Errorf("a request to another host: %s", request)
			}
		}
		p.Close()
	})
	return &tab{p, t, url}
}

// signIn signs somebody in.
func (p *tab) signIn(name string) *tab {
	p.t.Helper()
	p.goTo("/")
	p.click("button", name)
	return p
}

func (p *tab) must(err error) {
	p.t.Helper()
	if err != nil {
		text, _ := p.Text()
		at, _ := p.URL()
		p.t.Fatalf("%v\nat %s:\n%s", err, at, text)
	}
}

func (p *tab) goTo(path string)             { p.t.Helper(); p.must(p.Go(p.url + path)) }
func (p *tab) click(role, name string)      { p.t.Helper(); p.must(p.Click(role, name)) }
func (p *tab) fill(role, name, text string) { p.t.Helper(); p.must(p.Fill(role, name, text)) }
func (p *tab) choose(name, option string)   { p.t.Helper(); p.must(p.Choose(name, option)) }
func (p *tab) press(key string)             { p.t.Helper(); p.must(p.Press(key, 0)) }

// heading waits for a page.
func (p *tab) heading(name string) {
	p.t.Helper()
	p.must(p.Wait("heading", name))
}

// has waits until the page has the texts.
func (p *tab) has(texts ...string) {
	p.t.Helper()
	page := ""
	for range 200 {
		page, _ = p.Text() // which fails while the page changes
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(page, text) }) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.t.Errorf("the page has not all of %q:\n%s", texts, page)
}

// value returns the value of a field.
func (p *tab) value(role, name string) string {
	p.t.Helper()
	v, err := p.Value(role, name)
	p.must(err)
	return v
}

// path returns where the page is, without the host.
func (p *tab) path() string {
	p.t.Helper()
	url, err := p.URL()
	p.must(err)
	return strings.TrimPrefix(url, p.url)
}

// axe is the source of axe-core, which npm brings.
var axe = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "axe")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, os.DirFS("testdata")); err != nil {
		return "", err
	}
	npm := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir, npm.Env = dir, append(os.Environ(), "npm_config_update_notifier=false")
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "node_modules/axe-core/axe.min.js"))
	return string(text), err
})

// accessible expects that axe-core finds nothing, light and dark, wide and narrow,
// and that the page needs no sideways scrolling.
func (p *tab) accessible(what string) {
	p.t.Helper()
	source, err := axe()
	if errors.Is(err, exec.ErrNotFound) {
		p.t.Skip("npm is not installed; it brings axe-core")
	}
	p.must(err)
	_, err = browser.Eval[bool](p.Page, source+"; true")
	p.must(err)
	for _, width := range []int64{1280, 390} {
		for _, dark := range []bool{false, true} {
			p.must(p.Look(width, dark))
			p.accessibleNow(fmt.Sprintf("%s, %d px, dark %v", what, width, dark))
		}
	}
}

func (p *tab) accessibleNow(what string) {
	p.t.Helper()
	violations, err := browser.Eval[[]string](p.Page, `axe.run(document).then(r => r.violations.flatMap(v =>
		v.nodes.map(n => v.id + ": " + n.html + " " + n.any.concat(n.all, n.none).map(c => c.message).join("; "))))`)
	p.must(err)
	for _, v := range violations {
		p.t.Errorf("%s: %s", what, v)
	}
	width, err := browser.Eval[[2]int](p.Page, "[document.documentElement.scrollWidth, innerWidth]")
	p.must(err)
	if width[0] > width[1] {
		p.t.Errorf("%s: the page is %d pixels wide, and the window %d", what, width[0], width[1])
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
