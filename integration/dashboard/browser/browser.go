// Package browser drives a Chromium as a person does: by the roles and names that
// assistive technology sees, with scripts on and off. It is for the tests and the
// screenshots of the dashboard, and may change at any time.
package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience is how long a page has to show what is asked for.
const patience = 20 * time.Second

// ErrNone means that there is no browser on this machine.
var ErrNone = errors.New("no Chromium is found; install chromium, or set CHROMIUM to its path")

// Find returns the path of the browser.
func Find() (string, error) {
	if path := os.Getenv("CHROMIUM"); path != "" {
		return path, nil
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNone
}

// A Browser is one that runs. Its pages share no cookies.
type Browser struct {
	ctx   context.Context
	Close func()
}

// Open starts a browser. It finds all hosts whose names end in .test on this
// machine.
func Open() (*Browser, error) {
	path, err := Find()
	if err != nil {
		return nil, err
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path),
		chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1"))
	if os.Getuid() == 0 {
		opts = append(opts, chromedp.NoSandbox)
	}
	allocator, closeAllocator := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, closeBrowser := chromedp.NewContext(allocator)
	if err := chromedp.Do(ctx); err != nil {
		closeAllocator()
		return nil, err
	}
	return &Browser{ctx, func() { closeBrowser(); closeAllocator() }}, nil
}

// Options say what a page is shown in.
type Options struct {
	Width    int64 // 1280 if 0
	Dark     bool
	NoScript bool
	Zone     string // of the reader, such as "Europe/Berlin"; UTC if empty
}

// A Page is a tab of its own. Its methods return when the page has settled.
type Page struct {
	ctx   context.Context
	Close context.CancelFunc
	opts  Options

	mu       sync.Mutex
	problems []string // of the console
	requests []string // URLs
}

// Open opens a page.
func (b *Browser) Open(opts Options) (*Page, error) {
	if opts.Width == 0 {
		opts.Width = 1280
	}
	if opts.Zone == "" {
		opts.Zone = "UTC"
	}
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	p := &Page{ctx: ctx, Close: cancel, opts: opts}
	err := chromedp.Do(ctx, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		var none chromedp.Void
		return none, errors.Join(
			look(ctx, t, opts.Width, opts.Dark),
			call(ctx, t, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: opts.Zone}),
			call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: opts.NoScript}),
		)
	})
	if err != nil {
		cancel()
		return nil, err
	}
	err = chromedp.Listen(ctx, func(event any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch event := event.(type) {
		case *cdplog.EventEntryAdded:
			if !strings.Contains(event.Entry.Text, "server responded with a status of") { // which is asked for
				p.problems = append(p.problems, event.Entry.Text)
			}
		case *runtime.EventExceptionThrown:
			p.problems = append(p.problems, event.ExceptionDetails.Text+" "+exception(event.ExceptionDetails))
		case *network.EventRequestWillBeSent:
			p.requests = append(p.requests, event.Request.URL)
		}
	})
	return p, err
}

// Duplicate opens another tab that shares the cookies of this one.
func (p *Page) Duplicate() (*Page, error) {
	ctx, cancel := chromedp.NewContext(p.ctx)
	if err := chromedp.Do(ctx); err != nil {
		cancel()
		return nil, err
	}
	return &Page{ctx: ctx, Close: cancel, opts: p.opts}, nil
}

// Look changes the width of the window and the color scheme.
func (p *Page) Look(width int64, dark bool) error {
	p.opts.Width, p.opts.Dark = width, dark
	return p.do(func(ctx context.Context, t *chromedp.Target) error { return look(ctx, t, width, dark) })
}

func look(ctx context.Context, t *chromedp.Target, width int64, dark bool) error {
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	return errors.Join(
		call(ctx, t, emulation.SetDeviceMetricsOverride,
			emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 900, DeviceScaleFactor: 1}),
		call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}}),
	)
}

func exception(d *runtime.ExceptionDetails) string {
	if d.Exception == nil {
		return ""
	}
	return d.Exception.Description
}

func call[P, R any](ctx context.Context, t *chromedp.Target, command cdp.Command[P, R], params P) error {
	_, err := cdp.Call(ctx, t, command, params)
	return err
}

// do runs f, which is to be done in time.
func (p *Page) do(f func(ctx context.Context, t *chromedp.Target) error) error {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Do(ctx, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		var none chromedp.Void
		return none, f(ctx, t)
	})
}

// Problems returns what the console has said: violations of the policy, failed
// requests, exceptions.
func (p *Page) Problems() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.problems...)
}

// Requests returns the URLs of all requests so far.
func (p *Page) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.requests...)
}

// Go opens a URL.
func (p *Page) Go(url string) error {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Do(ctx, chromedp.Navigate(url))
}

// Back goes back in the history, and Reload loads the page again, with its POST.
func (p *Page) Back() error {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	err := chromedp.Do(ctx, chromedp.NavigateBack())
	if err != nil && strings.Contains(err.Error(), "ERR_CACHE_MISS") {
		return nil // Chromium asks whether to send the form again
	}
	return err
}

func (p *Page) Reload() error {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Do(ctx, chromedp.Reload())
}

// URL returns that of the page.
func (p *Page) URL() (url string, err error) {
	err = p.do(func(ctx context.Context, t *chromedp.Target) error {
		h, err := cdp.Call(ctx, t, page.GetNavigationHistory, cdp.Empty{})
		if err == nil {
			url = h.Entries[h.CurrentIndex].URL
		}
		return err
	})
	return url, err
}

// History returns the URLs that Back leads to.
func (p *Page) History() (urls []string, err error) {
	err = p.do(func(ctx context.Context, t *chromedp.Target) error {
		h, err := cdp.Call(ctx, t, page.GetNavigationHistory, cdp.Empty{})
		if err == nil {
			for _, e := range h.Entries {
				urls = append(urls, e.URL)
			}
		}
		return err
	})
	return urls, err
}

// find returns the elements with a role and a name that can be perceived.
func (p *Page) find(ctx context.Context, t *chromedp.Target, role, name string) (nodes []*accessibility.Node, err error) {
	for {
		found, err := query(ctx, t, role, name)
		switch {
		case err != nil && ctx.Err() == nil && strings.Contains(err.Error(), "Could not find node"):
			time.Sleep(20 * time.Millisecond) // the document was replaced in between
			continue
		case err != nil:
			return nil, err
		}
		for _, n := range found {
			if !n.Ignored {
				nodes = append(nodes, n)
			}
		}
		return nodes, nil
	}
}

func query(ctx context.Context, t *chromedp.Target, role, name string) ([]*accessibility.Node, error) {
	doc, err := cdp.Call(ctx, t, dom.GetDocument, dom.GetDocumentParams{Depth: new(int64(0))})
	if err != nil {
		return nil, err
	}
	found, err := cdp.Call(ctx, t, accessibility.QueryAXTree, accessibility.QueryAXTreeParams{
		NodeID: doc.Root.NodeID, Role: role, AccessibleName: name})
	return found.Nodes, err
}

// one waits until there is exactly one element with that role and name.
func (p *Page) one(ctx context.Context, t *chromedp.Target, role, name string) (*accessibility.Node, error) {
	for {
		nodes, err := p.find(ctx, t, role, name)
		if err == nil && len(nodes) == 1 {
			return nodes[0], nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("the page has %d elements with role %q and name %q: %w", len(nodes), role, name, errors.Join(err, ctx.Err()))
		}
	}
}

// Wait waits until there is one element with that role and name.
func (p *Page) Wait(role, name string) error {
	return p.do(func(ctx context.Context, t *chromedp.Target) error {
		_, err := p.one(ctx, t, role, name)
		return err
	})
}

// Count returns how many elements with that role and name there are now.
func (p *Page) Count(role, name string) (n int, err error) {
	err = p.do(func(ctx context.Context, t *chromedp.Target) error {
		nodes, err := p.find(ctx, t, role, name)
		n = len(nodes)
		return err
	})
	return n, err
}

// Value returns the value of a field.
func (p *Page) Value(role, name string) (value string, err error) {
	err = p.do(func(ctx context.Context, t *chromedp.Target) error {
		n, err := p.one(ctx, t, role, name)
		if err == nil && n.Value != nil {
			json.Unmarshal(n.Value.Value, &value)
		}
		return err
	})
	return value, err
}

// Click clicks an element with the mouse, and waits for the page that follows if
// there is one.
func (p *Page) Click(role, name string) error { return p.click(role, name, 1) }

// DoubleClick clicks an element twice, faster than the page can change.
func (p *Page) DoubleClick(role, name string) error { return p.click(role, name, 2) }

func (p *Page) click(role, name string, times int64) error {
	return p.do(func(ctx context.Context, t *chromedp.Target) error {
		n, err := p.one(ctx, t, role, name)
		if err != nil {
			return err
		}
		x, y, err := p.center(ctx, t, n.BackendDOMNodeID)
		if err != nil {
			return err
		}
		return p.settles(ctx, t, func() (err error) {
			for i := range times {
				err = errors.Join(err, mouse(ctx, t, x, y, i+1))
			}
			return err
		})
	})
}

func (p *Page) center(ctx context.Context, t *chromedp.Target, id cdp.BackendNodeID) (x, y float64, err error) {
	if err := call(ctx, t, dom.ScrollIntoViewIfNeeded, dom.ScrollIntoViewIfNeededParams{BackendNodeID: id}); err != nil {
		return 0, 0, err
	}
	quads, err := cdp.Call(ctx, t, dom.GetContentQuads, dom.GetContentQuadsParams{BackendNodeID: id})
	if err != nil {
		return 0, 0, err
	}
	if len(quads.Quads) == 0 {
		return 0, 0, errors.New("the element has no size")
	}
	q := quads.Quads[0]
	return (q[0] + q[4]) / 2, (q[1] + q[5]) / 2, nil
}

func mouse(ctx context.Context, t *chromedp.Target, x, y float64, n int64) error {
	for _, kind := range []input.DispatchMouseEventType{"mousePressed", "mouseReleased"} {
		if err := call(ctx, t, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: x, Y: y, Button: "left", ClickCount: n}); err != nil {
			return err
		}
	}
	return nil
}

// settles waits until the page that f leads to is loaded. If f leads to none, it
// waits a moment.
func (p *Page) settles(ctx context.Context, t *chromedp.Target, f func() error) error {
	started, stopStarted := t.Subscribe("Page.frameStartedLoading")
	defer stopStarted()
	stopped, stopStopped := t.Subscribe("Page.frameStoppedLoading")
	defer stopStopped()
	within, stopWithin := t.Subscribe("Page.navigatedWithinDocument")
	defer stopWithin()
	if err := f(); err != nil {
		return err
	}
	loading := 0
	wait := time.NewTimer(150 * time.Millisecond)
	for {
		select {
		case <-started:
			loading++
			wait.Reset(patience / 4) // a link within the page may never tell that it has stopped
		case <-stopped:
			if loading--; loading <= 0 {
				loading = 0
				wait.Reset(60 * time.Millisecond)
			}
		case <-within:
			loading = 0
			wait.Reset(60 * time.Millisecond)
		case <-wait.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Fill replaces the text of a field.
func (p *Page) Fill(role, name, text string) error {
	return p.do(func(ctx context.Context, t *chromedp.Target) error {
		n, err := p.one(ctx, t, role, name)
		if err != nil {
			return err
		}
		if err := call(ctx, t, dom.Focus, dom.FocusParams{BackendNodeID: n.BackendDOMNodeID}); err != nil {
			return err
		}
		if err := press(ctx, t, "a", 2); err != nil { // Ctrl+A
			return err
		}
		return call(ctx, t, input.InsertText, input.InsertTextParams{Text: text})
	})
}

// Choose chooses an option of a select by what it is called, with the keyboard.
func (p *Page) Choose(name, option string) error {
	return p.do(func(ctx context.Context, t *chromedp.Target) error {
		n, err := p.one(ctx, t, "combobox", name)
		if err != nil {
			return err
		}
		if err := call(ctx, t, dom.Focus, dom.FocusParams{BackendNodeID: n.BackendDOMNodeID}); err != nil {
			return err
		}
		for _, c := range option { // a select goes to the option that is typed
			if err := call(ctx, t, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: "char", Text: string(c), Key: string(c)}); err != nil {
				return err
			}
		}
		for {
			if n, err = p.one(ctx, t, "combobox", name); err != nil {
				return err
			}
			var value string
			json.Unmarshal(n.Value.Value, &value)
			if value == option {
				return nil
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("select %q is %q, want %q", name, value, option)
			}
		}
	})
}

// Press presses a key, such as "Tab", and waits for the page that follows if there
// is one. A modifier of 8 is Shift.
func (p *Page) Press(key string, modifier int64) error {
	return p.do(func(ctx context.Context, t *chromedp.Target) error {
		return p.settles(ctx, t, func() error { return press(ctx, t, key, modifier) })
	})
}

// codes are what Chromium wants to know of a key.
var codes = map[string]struct {
	code int64
	text string
}{"Tab": {9, ""}, "Enter": {13, "\r"}, " ": {32, " "}, "ArrowDown": {40, ""}, "ArrowUp": {38, ""}, "a": {65, ""}}

func press(ctx context.Context, t *chromedp.Target, key string, modifier int64) error {
	k := codes[key]
	down := input.DispatchKeyEventParams{Type: "rawKeyDown", Key: key, WindowsVirtualKeyCode: k.code, Modifiers: modifier}
	if k.text != "" {
		down.Type, down.Text = "keyDown", k.text
	}
	if key == "a" && modifier == 2 {
		down.Commands = []string{"selectAll"}
	}
	up := input.DispatchKeyEventParams{Type: "keyUp", Key: key, WindowsVirtualKeyCode: k.code, Modifiers: modifier}
	return errors.Join(call(ctx, t, input.DispatchKeyEvent, down), call(ctx, t, input.DispatchKeyEvent, up))
}

// Type types a text where the focus is.
func (p *Page) Type(text string) error {
	return p.do(func(ctx context.Context, t *chromedp.Target) error {
		return call(ctx, t, input.InsertText, input.InsertTextParams{Text: text})
	})
}

// Focused returns the role and the name of the element that has the focus.
func (p *Page) Focused() (role, name string, err error) {
	err = p.do(func(ctx context.Context, t *chromedp.Target) error {
		nodes, err := p.find(ctx, t, "", "")
		for _, n := range nodes {
			for _, property := range n.Properties {
				if property.Name == "focused" && string(property.Value.Value) == "true" && !strings.Contains(string(n.Role.Value), "RootWebArea") {
					json.Unmarshal(n.Role.Value, &role)
					json.Unmarshal(n.Name.Value, &name)
				}
			}
		}
		return err
	})
	return role, name, err
}

// Eval evaluates JavaScript in the page, also if its own scripts are off.
func Eval[T any](p *Page, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// Text returns what a reader sees.
func (p *Page) Text() (string, error) { return Eval[string](p, "document.body.innerText") }

// maxHeight is that of a screenshot. Long tables repeat themselves.
const maxHeight = 1800

// Screenshot returns the page as PNG.
func (p *Page) Screenshot() (png []byte, err error) {
	err = p.do(func(ctx context.Context, t *chromedp.Target) error {
		m, err := cdp.Call(ctx, t, page.GetLayoutMetrics, cdp.Empty{})
		if err != nil {
			return err
		}
		shot, err := cdp.Call(ctx, t, page.CaptureScreenshot, page.CaptureScreenshotParams{
			Format: "png", CaptureBeyondViewport: new(true),
			Clip: &page.Viewport{Width: float64(p.opts.Width), Height: min(m.CSSContentSize.Height, maxHeight), Scale: 1},
		})
		png = shot.Data
		return err
	})
	return png, err
}
