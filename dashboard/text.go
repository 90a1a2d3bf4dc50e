package dashboard

import (
	"fmt"
	"slices"
)

// Texts returns every English text that [Options.Text] may get, sorted. A text
// with verbs of package fmt gets numbers and names where they stand.
func Texts() []string { return slices.Clone(texts) }

// translated returns a text in the language of the viewer.
func (c *call) translated(english string) string {
	if c.Options.Text == nil {
		return english
	}
	return c.Options.Text(c.r, english)
}

// text returns a text in the language of the viewer, with its arguments.
func (c *call) text(english string, args ...any) string {
	text := c.translated(english)
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}

// Text is text, for templates: of a text that is not written there.
func (v *view) Text(english any) string { return v.call.text(fmt.Sprint(english)) }
