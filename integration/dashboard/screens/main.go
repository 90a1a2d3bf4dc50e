// Command screens writes screenshots of each page of the dashboard into a
// directory: light and dark, 1280 and 390 pixels wide. It needs Chromium.
//
//	go run ./integration/dashboard/screens docs/screens
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/insigner/auth/integration/dashboard/browser"
	"github.com/insigner/auth/integration/dashboard/example"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: screens DIR")
	}
	if err := run(os.Args[1]); err != nil {
		log.Fatal("screens: ", err)
	}
}

func run(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "screens")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	program, err := example.Build(tmp)
	if err != nil {
		return err
	}
	b, err := browser.Open()
	if err != nil {
		return err
	}
	defer b.Close()
	for _, width := range []int64{1280, 390} {
		for _, scheme := range []string{"light", "dark"} {
			files, err := os.MkdirTemp(tmp, "db")
			if err != nil {
				return err
			}
			p, err := example.Start(program, files)
			if err != nil {
				return err
			}
			page, err := b.Open(browser.Options{Width: width, Dark: scheme == "dark"})
			if err == nil {
				err = shoot(page, p.URL, func(name string) string {
					return filepath.Join(dir, fmt.Sprintf("%s-%s-%d.png", name, scheme, width))
				})
				page.Close()
			}
			p.Stop()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// shoot goes through the pages as a customer does.
func shoot(p *browser.Page, url string, file func(name string) string) error {
	var err error
	step := func(next error) {
		if err == nil {
			err = next
		}
	}
	take := func(name string) {
		if err != nil {
			return
		}
		png, shotErr := p.Screenshot()
		step(shotErr)
		if err == nil {
			step(os.WriteFile(file(name), png, 0o666))
		}
	}
	do := func(f func() error) {
		if err == nil {
			step(f())
		}
	}
	goTo := func(path string) { do(func() error { return p.Go(url + "/developers/" + path) }) }
	click := func(role, name string) { do(func() error { return p.Click(role, name) }) }
	goToKey := func(name string) { goTo(""); click("link", name) }

	do(func() error { return p.Go(url + "/") })
	take("sign-in")
	click("button", "Bob, Globex")
	take("empty")
	do(func() error { return p.Go(url + "/") })
	click("button", "Ada, Acme")
	take("keys")
	goTo("keys/new")
	take("create")
	click("button", "Create")
	take("create-problem")
	do(func() error { return p.Fill("textbox", "Name", "Mobile app") })
	click("checkbox", "documents.*")
	click("button", "Create")
	take("save-your-key")
	click("link", "I have saved it")
	take("key-waiting")
	goToKey("Production Backend")
	take("key")
	click("link", "Edit")
	take("edit")
	click("link", "Cancel")
	click("link", "Rotate")
	take("rotate")
	click("link", "Cancel")
	click("link", "Revoke")
	take("revoke")
	goTo("")
	click("checkbox", "Select Nightly export")
	click("button", "Revoke selected")
	take("revoke-selected")
	goTo("activity")
	take("activity")
	goTo("logs")
	take("logs")
	goTo("logs?address=x")
	take("logs-problem")
	goTo("keys/unknown")
	take("not-found")
	if err != nil {
		text, _ := p.Text()
		at, _ := p.URL()
		return fmt.Errorf("%w at %s:\n%s", err, at, strings.TrimSpace(text))
	}
	return nil
}
