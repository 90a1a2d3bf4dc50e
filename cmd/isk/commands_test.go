package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/insigner/auth/internal/notice"
	"github.com/spf13/cobra"
)

// eachCommand calls f for each command, the root too.
func eachCommand(t *testing.T, f func(t *testing.T, c *cobra.Command)) {
	root := newRoot(newApp(strings.NewReader(""), io.Discard, io.Discard, func(string) string { return "" }))
	for _, c := range append([]*cobra.Command{root}, root.Commands()...) {
		t.Run(c.Name(), func(t *testing.T) { f(t, c) })
	}
}

func TestHelp(t *testing.T) {
	eachCommand(t, func(t *testing.T, c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("the short text is %q", c.Short)
		}
		for line := range strings.SplitSeq(c.Long, "\n") {
			if len([]rune(line)) > 80 {
				t.Errorf("this line is longer than 80: %s", line)
			}
		}
		if !strings.HasPrefix(c.Long, strings.ToUpper(c.Name()[:1])+c.Name()[1:]+" ") && c.Name() != "isk" {
			t.Errorf("the text does not begin with the name: %.40s", c.Long)
		}
		args := []string{"help", c.Name()}
		if c.Name() == "isk" {
			args = args[:1]
		}
		if r := (env{}).must(t, args...); !strings.Contains(r.stdout, c.Example) || !strings.HasSuffix(r.stdout, "\n") {
			t.Errorf("isk %v prints no example, or no line break", args)
		}
	})
}

// TestExamples parses the examples of each command.
func TestExamples(t *testing.T) {
	eachCommand(t, func(t *testing.T, c *cobra.Command) {
		examples := commandLines(t, c.Example)
		examples = append(examples, commandLines(t, indented(c.Long))...)
		if len(commandLines(t, c.Example)) == 0 {
			t.Fatal("there is no example")
		}
		own := false
		for _, args := range examples {
			own = own || slices.Contains(args, c.Name()) || c.Name() == "isk"
			parse(t, args)
		}
		if !own {
			t.Error("no example is of this command")
		}
	})
}

// parse parses a command line, and checks flags and arguments.
func parse(t *testing.T, args []string) {
	t.Helper()
	root := newRoot(newApp(strings.NewReader(""), io.Discard, io.Discard, func(string) string { return "" }))
	c, rest, err := root.Find(args)
	if err != nil || c == root {
		t.Errorf("isk %q: there is no such command: %v", args, err)
		return
	}
	if err := c.ParseFlags(rest); err != nil {
		t.Errorf("isk %q: %v", args, err)
		return
	}
	if err := c.ValidateArgs(c.Flags().Args()); err != nil {
		t.Errorf("isk %q: %v", args, err)
	}
}

// indented returns the lines of text that are indented.
func indented(text string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "  ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// commandLines returns the arguments of each call of isk in a shell's text.
func commandLines(t *testing.T, text string) (lines [][]string) {
	t.Helper()
	for line := range strings.SplitSeq(text, "\n") {
		_, call, ok := strings.Cut(line, "isk ")
		if !ok || strings.HasPrefix(strings.TrimSpace(line), "export ") {
			continue
		}
		call, _, _ = strings.Cut(call, " > ")
		call, _, _ = strings.Cut(call, " < ")
		call, _, _ = strings.Cut(call, ")")
		// The shell splits it into words.
		out, err := exec.Command("sh", "-c", "printf '%s\\n' "+call).Output()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		lines = append(lines, strings.Split(strings.TrimSuffix(string(out), "\n"), "\n"))
	}
	return lines
}

func TestGroups(t *testing.T) {
	eachCommand(t, func(t *testing.T, c *cobra.Command) {
		if c.Name() != "isk" && c.GroupID == "" {
			t.Error("it is in no group")
		}
	})
}

// TestManualPage compares the page with the commands, and renders it.
func TestManualPage(t *testing.T) {
	description := env{}.must(t, "help", "--json").stdout
	generate := exec.Command("go", "run", "./internal/man")
	generate.Stdin = strings.NewReader(description)
	want, err := generate.Output()
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("isk.1")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Error("isk.1 is not that of the commands: run go generate")
	}
	if _, err := exec.LookPath("groff"); err != nil {
		skip(t, "groff")
	}
	render := exec.Command("groff", "-ww", "-z", "-man", "-Tutf8", "isk.1")
	if out, err := render.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("groff: %v: %s", err, out)
	}
	if _, err := exec.LookPath("man"); err != nil {
		skip(t, "man")
	}
	page := exec.Command("man", "-l", "isk.1")
	page.Env = append(os.Environ(), "MANWIDTH=80", "LC_ALL=C.UTF-8", "MANPAGER=cat")
	var stderr bytes.Buffer
	page.Stderr = &stderr
	out, err := page.Output()
	if err != nil || stderr.Len() > 0 {
		t.Errorf("man: %v: %s", err, &stderr)
	}
	for _, part := range []string{"--dead-for", "isk purge --dead-for 1y --yes", "KEY=$(isk create --name CI"} {
		if !strings.Contains(string(out), part) {
			t.Errorf("the page does not have %s", part)
		}
	}
}

// skip skips a test that needs a program, and tells people.
func skip(t *testing.T, program string) {
	t.Helper()
	notice.Print("isk: " + program + " is not installed: a test with it was skipped; install it with: apt-get install " + program)
	t.Skip(program + " is not installed")
}
