package main

import (
	"fmt"
	"time"
)

// A progress tells how far a command is, on the standard error, once it has
// taken more than a second. On a terminal it is one line that changes each
// second. Elsewhere it is a line every ten seconds.
type progress struct {
	a        *app
	text     string // with the number done
	done     int
	next     time.Time
	interval time.Duration
	terminal bool
	shown    bool
}

// newProgress returns a progress. Its text has a verb for the number done, as in
// "%d of 12 keys revoked".
func (a *app) newProgress(text string) *progress {
	p := &progress{a: a, text: text, next: a.now().Add(time.Second), interval: 10 * time.Second, terminal: isTerminal(a.stderr)}
	if p.terminal {
		p.interval = time.Second
	}
	return p
}

// add counts n more.
func (p *progress) add(n int) {
	p.done += n
	now := p.a.now()
	if p.a.json || now.Before(p.next) {
		return
	}
	p.next = now.Add(p.interval)
	p.shown = true
	text := printable(fmt.Sprintf(p.text, p.done))
	if p.terminal {
		fmt.Fprintf(p.a.stderr, "\r%s\x1b[K", text)
	} else {
		fmt.Fprintln(p.a.stderr, text)
	}
}

// clear removes the line from the terminal, before something else is told.
func (p *progress) clear() {
	if p.shown && p.terminal {
		fmt.Fprint(p.a.stderr, "\r\x1b[K")
		p.shown = false
	}
}
