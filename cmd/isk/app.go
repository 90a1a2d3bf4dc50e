package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// An app is one run of the command.
type app struct {
	ctx    context.Context // of the run, for what waits for a person
	stdin  io.Reader
	stdout *output
	stderr io.Writer
	getenv func(string) string
	now    func() time.Time

	// Flags that all commands have.
	json         bool
	as           string
	database     string
	databaseFile string

	yes bool // the flag of those that ask

	keys     keyFinder // finds keys in arguments
	secrets  secrets   // what no message may have
	warnings []string  // for the object at the end, with json
	closers  []func()
	rows     *bufio.Writer // to stdout, for lists
}

func newApp(stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string) *app {
	out := &output{stdout}
	return &app{stdin: stdin, stdout: out, stderr: stderr, getenv: getenv, now: time.Now,
		rows: bufio.NewWriterSize(out, 32<<10)}
}

// An output is the standard output. That nobody reads it any more is told by
// errReaderGone, since EPIPE can also come from the connection to the database.
type output struct{ io.Writer }

// errReaderGone is the error of an output that nobody reads.
var errReaderGone = errors.New("the reader of the output has gone")

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		err = errReaderGone
	}
	return n, err
}

// run runs the command with these arguments and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	a.ctx = ctx
	a.json = asksForJSON(args)
	a.keys = newKeyFinder(a.getenv(envPrefix))
	err := a.execute(ctx, args)
	if flushed := a.rows.Flush(); err == nil {
		err = flushed
	}
	for i := len(a.closers) - 1; i >= 0; i-- {
		a.closers[i]()
	}
	if errors.Is(err, errReaderGone) {
		return exitDone // it has seen enough
	}
	return a.end(ctx, err)
}

func (a *app) execute(ctx context.Context, args []string) error {
	if err := a.keys.refuse(args); err != nil {
		return err
	}
	root := newRoot(a)
	if err := checkCommand(root, args); err != nil {
		return err
	}
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

// asksForJSON reports whether the arguments have --json, also if they cannot be
// parsed.
func asksForJSON(args []string) bool {
	for _, arg := range args {
		switch {
		case arg == "--":
			return false
		case arg == "--json", arg == "--json=true":
			return true
		}
	}
	return false
}

// onClose calls f at the end of the run, in the reverse order.
func (a *app) onClose(f func()) { a.closers = append(a.closers, f) }

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	if o, ok := stream.(*output); ok {
		stream = o.Writer
	}
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// A group is under which heading the help lists a command.
type group struct{ id, title string }

var (
	keyCommands      = group{"key", "Keys:"}
	recordCommands   = group{"record", "What happened:"}
	moveCommands     = group{"move", "Many keys:"}
	databaseCommands = group{"database", "The database:"}
	otherCommands    = group{"other", "More:"}
)

var groups = []group{keyCommands, moveCommands, recordCommands, databaseCommands, otherCommands}

type registered struct {
	group group
	make  func(*app) *cobra.Command
}

var commands []registered

// register adds a command. Doc.go tells how one is made.
func register(g group, make func(*app) *cobra.Command) {
	commands = append(commands, registered{g, make})
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "isk",
		Short: "Manage API keys",
		Long: `isk manages API keys, for staff and scripts.

It connects to the database that ISK_DATABASE_URL names, or the first line of
the file --database-file: postgres://user@host/name or sqlite:///path. For
PostgreSQL, PGPASSFILE, ~/.pgpass and the other PG… variables work.

The keys are those of an API whose settings these variables name:
  ISK_PREFIX        what its keys begin with (isk_ if not set)
  ISK_PEPPER_FILE   a file with the pepper of the hashes
  ISK_CATALOG_FILE  a JSON file with the scopes that exist

A key is printed once, alone on a line of the standard output. No command takes
a key as an argument: find reads it from the standard input.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 store unavailable.
With --json an error is one object on the standard error: code, message, exit.`,
		Example: `  export ISK_DATABASE_URL=postgres://staff@db.example.com/api
  isk list --owner acme`,
		Args: cobra.ArbitraryArgs, // checkCommand refuses them
		RunE: func(c *cobra.Command, args []string) error { return c.Help() },
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			a.json = a.json && c.Flags().Changed("json") // and not the value of another flag
			// An empty one would act on another database, or in another name.
			return notSetToNothing(c, "as", "database", "database-file")
		},
		SilenceErrors:     true,
		SilenceUsage:      true,
		Version:           version(),
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetVersionTemplate("isk {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.SuggestionsMinimumDistance = 2
	root.SetHelpFunc(func(c *cobra.Command, _ []string) {
		io.WriteString(a.stdout, c.Long+"\n\n"+strings.TrimRight(c.UsageString(), "\n")+"\n")
	})
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", a.json, "print JSON, and errors as a JSON object")
	flags.StringVar(&a.as, "as", "", "`who` acts, for the records (default: the user and host of the system)")
	flags.StringVar(&a.database, "database", "", "`URL` of the database, without a password")
	flags.StringVar(&a.databaseFile, "database-file", "", "a `file` whose first line is the URL of the database")
	flags.Lookup("json").DefValue = "false"
	for _, name := range []string{"as", "database"} {
		root.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
	}
	for _, r := range commands {
		c := r.make(a)
		c.GroupID = r.group.id
		if c.ValidArgsFunction == nil && len(c.ValidArgs) == 0 {
			c.ValidArgsFunction = cobra.NoFileCompletions
		}
		root.AddCommand(c)
		if c.Name() == "help" {
			root.SetHelpCommand(c)
		}
	}
	return root
}

// checkCommand refuses a command that does not exist, before its flags are
// parsed: otherwise one of them would be reported.
func checkCommand(root *cobra.Command, args []string) error {
	c, rest, err := root.Find(args)
	if err != nil || c != root {
		return nil
	}
	for i := 0; i < len(rest); i++ {
		switch arg := rest[i]; {
		case arg == "--":
		case !strings.HasPrefix(arg, "-"):
			if strings.HasPrefix(arg, cobra.ShellCompRequestCmd) {
				return nil // cobra adds it later
			}
			return unknownCommand(root, arg)
		case arg == "--as", arg == "--database", arg == "--database-file":
			i++
		}
	}
	return nil
}
