package dashboard

import (
	"cmp"
	"fmt"
	"strings"
	"unicode"

	"github.com/insigner/auth"
)

// maxShown is how many characters of a text of others are shown.
const maxShown = 300

// shown returns a text of others so that all of it can be seen, and does nothing
// to the text around it: a character without a shape of its own, such as a
// control of direction, is shown as its number. A long text is cut off.
func shown(text string) string {
	var b strings.Builder
	n := 0
	for _, c := range text {
		if n++; n > maxShown {
			b.WriteRune('…')
			break
		}
		if hasShape(c) || c == ' ' {
			b.WriteRune(c)
		} else {
			fmt.Fprintf(&b, "[U+%04X]", c)
		}
	}
	return b.String()
}

// hasShape reports whether a character can be seen, or joins others that can.
func hasShape(c rune) bool {
	switch c {
	case '\u200c', '\u200d', '\ufe0f': // joiners of scripts and of emoji
		return true
	}
	return unicode.IsGraphic(c) && !unicode.IsSpace(c) && !invisible(c)
}

// invisible reports whether a character is graphic for Unicode and yet has no
// shape.
func invisible(c rune) bool {
	switch c {
	case '\u115f', '\u1160', '\u3164', '\uffa0', '\u2800', '\u034f', '\u17b4', '\u17b5': // fillers and blanks
		return true
	}
	return unicode.Is(unicode.Variation_Selector, c)
}

// nameOf returns the name of a key, or its hint if the name cannot be seen, or
// its ID.
func nameOf(r *auth.Record) string {
	for _, c := range r.Name {
		if hasShape(c) && !unicode.Is(unicode.Join_Control, c) && !unicode.Is(unicode.M, c) {
			return shown(r.Name)
		}
	}
	return shown(cmp.Or(r.Hint, r.ID))
}
