package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cmd/isk/internal/transfer"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore"
	"github.com/spf13/cobra"
)

func init() { register(moveCommands, newImport) }

func newImport(a *app) *cobra.Command {
	var format string
	var dryRun bool
	c := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Import keys from CSV or JSON lines",
		Long: `Import inserts all keys of a file, or none. The file - is the standard input.

A row has a hash, 64 hex digits as the database has them, or a key, and in
addition name, owner and scopes. Scopes are separated by blanks or commas, or
are a JSON array. expiresAt is a time (2027-12-31T18:00:00Z), a date (the end of
that day in UTC) or never. Everything else that isk export writes is taken too:
id, hint, metadata, createdAt, createdBy, updatedAt, updatedBy, revision,
disabledAt, revokedAt, lastUsedAt, rotatedFrom, rotatedTo, chain. The first line
of a CSV names the columns, in any order. The members of JSON lines have the
same names.

A row with all columns of an export is restored exactly as it is. Any other row
is a new key: it is checked as isk create checks it, and what it does not say is
set as for a key that is created now. If it has createdAt, it may have expired.

Keys are read from the standard input only, since a file with keys lies on a
disk. The database gets their hashes.

If a row is wrong, nothing is imported. Each is told by its line, the first 100
of them. No message shows the text of a row. Rows are compared with the database
once all of them are right. Progress is shown, and interrupting leaves nothing.

In SQLite nobody else can write while the keys are written, once all are read.`,
		Example: `  isk import keys.csv --dry-run
  isk import - --format jsonl < backup.jsonl
  psql -c "\copy (SELECT …) TO STDOUT CSV HEADER" old | isk import -`,
		Args: exactly("FILE"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(c *cobra.Command, args []string) error {
			i := &importing{a: a, file: args[0], fromStdin: args[0] == "-"}
			if err := i.setFormat(format); err != nil {
				return err
			}
			return i.run(c.Context(), dryRun)
		},
	}
	c.Flags().StringVar(&format, "format", "", "csv or jsonl (default: by the name of the file, or its content)")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "check everything, and write nothing")
	c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"csv", "jsonl"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// An importing is a call of isk import.
type importing struct {
	a         *app
	file      string
	fromStdin bool
	format    transfer.Format // if empty, the content tells it

	reader  *transfer.Reader
	checker *transfer.Checker
	lines   transfer.LineIndex // of the records that the store gets
	wrong   []*transfer.LineError
	total   int // of the lines that are wrong
	written bool
	reading *progress
}

// maxWrong is how many wrong lines are told.
const maxWrong = 100

func (i *importing) setFormat(format string) error {
	switch format {
	case "csv", "jsonl":
		i.format = transfer.Format(format)
	case "":
		switch strings.ToLower(filepath.Ext(i.file)) {
		case ".csv":
			i.format = transfer.CSV
		case ".jsonl", ".ndjson":
			i.format = transfer.Lines
		}
	default:
		return wrongUsage("--format is csv or jsonl")
	}
	return nil
}

// An inserter is what both stores have.
type inserter interface {
	InsertAll(ctx context.Context, records iter.Seq2[*auth.Record, error], opts *sqlstore.InsertAllOptions) (int64, error)
}

func (i *importing) run(ctx context.Context, dryRun bool) error {
	in := i.a.stdin
	if !i.fromStdin {
		f, err := os.Open(i.file)
		if err != nil {
			return wrongUsage("%s: %w", i.file, fileError(err))
		}
		defer f.Close()
		in = f
	}
	s, err := i.a.open(ctx)
	if err != nil {
		return err
	}
	store, ok := s.raw.(inserter)
	if !ok {
		return failf("the store %T cannot insert many keys", s.raw)
	}
	i.checker = transfer.NewChecker(s.scheme, s.by, s.store, i.a.keys.holds)
	by, err := i.checker.Actor(ctx)
	if err != nil {
		return err
	}
	if i.reader, err = transfer.NewReader(interruptible(ctx, in), i.format); err != nil {
		return i.failed(ctx, &readError{err})
	}
	if i.reader.HasKeys() && !i.fromStdin {
		return errKeyInFile
	}
	i.reading = i.a.newProgress("%d rows read")
	writing := i.a.newProgress("%d keys written, not committed yet")
	n, err := store.InsertAll(ctx, i.records(ctx), &sqlstore.InsertAllOptions{By: by, DryRun: dryRun, Progress: func(n int64) {
		i.written = true
		writing.add(int(n) - writing.done)
	}})
	i.reading.clear()
	writing.clear()
	if err != nil {
		return i.failed(ctx, err)
	}
	if i.a.json {
		return i.a.writeJSON(map[string]any{"imported": n, "dryRun": dryRun})
	}
	if dryRun {
		i.a.say("Nothing is wrong with %s. Nothing was imported.", count(n))
	} else {
		i.a.say("Imported %s.", count(n))
	}
	return nil
}

// count returns a number of keys.
func count(n int64) string {
	if n == 1 {
		return "1 key"
	}
	return fmt.Sprintf("%d keys", n)
}

// records yields the records of the file. It ends with an error if a line is
// wrong. The records after a wrong line are only checked.
func (i *importing) records(ctx context.Context) iter.Seq2[*auth.Record, error] {
	return func(yield func(*auth.Record, error) bool) {
		for {
			r, err := i.next(ctx)
			switch line := (*transfer.LineError)(nil); {
			case err == io.EOF:
				if i.total > 0 {
					yield(nil, errWrongLines)
				}
				return
			case errors.As(err, &line):
				i.complain(line)
			case err != nil:
				yield(nil, err)
				return
			case i.total == 0 && !yield(r, nil):
				return
			}
			if !i.written {
				i.reading.add(1)
			}
		}
	}
}

// next returns the next record. The error is io.EOF, a *transfer.LineError, or
// one after which nothing can be imported.
func (i *importing) next(ctx context.Context) (*auth.Record, error) {
	row, err := i.reader.Next()
	if err != nil {
		if _, ok := errors.AsType[*transfer.LineError](err); !ok && err != io.EOF {
			err = &readError{err}
		}
		return nil, err
	}
	if row.HasKey() && !i.fromStdin {
		return nil, errKeyInFile
	}
	r, err := i.checker.Record(ctx, row)
	if err == nil && i.total == 0 {
		i.lines.Add(row.Line)
	}
	return r, err
}

func (i *importing) complain(line *transfer.LineError) {
	i.total++
	if len(i.wrong) < maxWrong {
		i.wrong = append(i.wrong, line)
	}
}

var (
	errWrongLines = errors.New("lines are wrong")

	errKeyInFile = &failure{code: "KEY_IN_FILE", exit: exitUsage,
		message: "nothing was imported: the file has keys, and they can be read where it lies. " +
			"Keys are read from the standard input only: pipe them to isk import -, and delete the file"}
)

// A readError is one of reading the file.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// failed returns what is told of an error: that nothing was imported, if that is
// certain.
func (i *importing) failed(ctx context.Context, err error) error {
	if refused, ok := errors.AsType[*sqlstore.RefusedError](err); ok {
		for _, r := range refused.Refused {
			reason := strings.TrimPrefix(r.Err.Error(), keyring.ErrExists.Error()+": ")
			if errors.Is(r.Err, keyring.ErrExists) {
				reason += ", in the database or by an earlier line"
			}
			i.complain(&transfer.LineError{Line: i.lines.Line(r.Index), Reason: reason})
		}
		i.total += int(refused.Total) - len(refused.Refused)
	}
	read, isRead := errors.AsType[*readError](err)
	line, isLine := errors.AsType[*transfer.LineError](err)
	failed, isFailure := errors.AsType[*failure](err)
	switch {
	case errors.Is(err, sqlstore.ErrOutcomeUnknown):
		return &failure{code: "OUTCOME_UNKNOWN", exit: exitUnavailable, err: err,
			message: "the database did not answer at the end: either all keys were imported or none; isk list tells: " + err.Error()}
	case ctx.Err() != nil:
		return &failure{code: "INTERRUPTED", exit: exitFailed, message: "interrupted; nothing was imported", err: err}
	case isFailure:
		return failed
	case isLine:
		i.complain(line) // of the header
		return i.wrongLines()
	case i.total > 0:
		return i.wrongLines()
	case isRead:
		return failf("nothing was imported: %s cannot be read: %w", i.name(), fileError(read.err))
	}
	return fmt.Errorf("nothing was imported: %w", mark(err))
}

func (i *importing) name() string {
	if i.fromStdin {
		return "the standard input"
	}
	return i.file
}

// wrongLines tells the lines that are wrong, and returns the failure.
func (i *importing) wrongLines() error {
	type lineJSON struct {
		Line    int    `json:"line"`
		Message string `json:"message"`
	}
	var lines []lineJSON
	for _, l := range i.wrong {
		lines = append(lines, lineJSON{l.Line, i.a.safe(l.Reason)})
		if !i.a.json {
			i.a.warn("%v", l)
		}
	}
	if more := i.total - len(i.wrong); more > 0 && !i.a.json {
		i.a.warn("and %d more", more)
	}
	message := fmt.Sprintf("nothing was imported: %d lines of %s are wrong", i.total, i.name())
	if i.total == 1 {
		message = fmt.Sprintf("nothing was imported: 1 line of %s is wrong", i.name())
	}
	return &failure{code: "INVALID_FILE", exit: exitFailed, message: message,
		more: map[string]any{"lines": lines, "wrongLines": i.total}}
}

// interruptible returns a reader that fails when ctx is done, also while it
// waits for in. What in reads then is lost.
func interruptible(ctx context.Context, in io.Reader) io.Reader {
	r := &interruptibleReader{ctx: ctx, ask: make(chan []byte), answer: make(chan answer)}
	go func() {
		for {
			select {
			case buf := <-r.ask:
				n, err := in.Read(buf)
				select {
				case r.answer <- answer{n, err}:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return r
}

type interruptibleReader struct {
	ctx    context.Context
	ask    chan []byte
	answer chan answer
	buf    []byte // which in may write to after the end
}

type answer struct {
	n   int
	err error
}

func (r *interruptibleReader) Read(p []byte) (int, error) {
	if r.buf == nil {
		r.buf = make([]byte, 64<<10)
	}
	buf := r.buf[:min(len(p), len(r.buf))]
	select {
	case r.ask <- buf:
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
	select {
	case a := <-r.answer:
		return copy(p, buf[:a.n]), a.err
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
}
