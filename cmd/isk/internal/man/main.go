// Command man turns the description of isk into its manual page:
//
//	isk help --json | go run ./internal/man > isk.1
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// A command is what isk help --json says of one.
type command struct {
	Name, Use, Short, Long, Example string
	Flags                           []flag
	Commands                        []command
}

type flag struct{ Name, Shorthand, Value, Usage, Default string }

func main() {
	if err := page(os.Stdout, os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

// page writes the page of the command that r describes.
func page(w io.Writer, r io.Reader) error {
	var root command
	if err := json.NewDecoder(r).Decode(&root); err != nil {
		return err
	}
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, ".TH %s 1 \"\" \"%s\" \"User Commands\"\n", strings.ToUpper(root.Name), root.Name)
	fmt.Fprintf(b, ".SH NAME\n%s \\- %s\n", root.Name, escape(lowerFirst(root.Short)))
	fmt.Fprintf(b, ".SH SYNOPSIS\n.B %s\n.I command\n[\\fIargument\\fR]...\n", root.Name)
	b.WriteString(".SH DESCRIPTION\n")
	text(b, root.Long)
	b.WriteString(".SH OPTIONS\nEach command has these.\n")
	flags(b, root.Flags)
	b.WriteString(".SH COMMANDS\n")
	for _, c := range root.Commands {
		fmt.Fprintf(b, ".SS \"%s %s\"\n", root.Name, escape(c.Use))
		if c.Long == "" {
			c.Long = c.Short + "."
		}
		text(b, c.Long)
		flags(b, c.Flags)
		if c.Example != "" {
			b.WriteString(".PP\nExamples:\n")
			text(b, c.Example)
		}
	}
	b.WriteString(".SH EXAMPLES\n")
	text(b, root.Example)
	b.WriteString(".SH SEE ALSO\nhttps://github.com/insigner/auth/blob/main/docs/command.md\n")
	return b.Flush()
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

func flags(w io.Writer, all []flag) {
	for _, f := range all {
		name := "\\-\\-" + escape(f.Name)
		if f.Shorthand != "" {
			name = "\\-" + f.Shorthand + ", " + name
		}
		fmt.Fprintf(w, ".TP\n\\fB%s\\fR", name)
		if f.Value != "" {
			fmt.Fprintf(w, " \\fI%s\\fR", escape(f.Value))
		}
		usage := f.Usage
		if f.Default != "" {
			usage += " (default: " + f.Default + ")"
		}
		fmt.Fprintf(w, "\n%s\n", escape(usage))
	}
}

// text writes paragraphs. Lines that are indented stay as they are.
func text(w io.Writer, s string) {
	verbatim := false
	for line := range strings.SplitSeq(strings.TrimRight(s, "\n"), "\n") {
		indented := strings.HasPrefix(line, "  ")
		switch {
		case indented && !verbatim:
			fmt.Fprint(w, ".PP\n.RS 2\n.EX\n")
		case !indented && verbatim:
			fmt.Fprint(w, ".EE\n.RE\n")
		}
		verbatim = indented
		switch {
		case line == "":
			fmt.Fprint(w, ".PP\n")
		default:
			fmt.Fprintln(w, escape(strings.TrimPrefix(line, "  ")))
		}
	}
	if verbatim {
		fmt.Fprint(w, ".EE\n.RE\n")
	}
}

// escape returns a line that roff prints as it is.
func escape(line string) string {
	line = strings.NewReplacer(
		`\`, `\e`, `-`, `\-`, `'`, `\(aq`, "`", "\\`", `~`, `\(ti`, `^`, `\(ha`, `"`, `\(dq`, `…`, `...`, `→`, `\(->`,
	).Replace(line)
	if strings.HasPrefix(line, ".") {
		line = `\&` + line
	}
	return line
}
