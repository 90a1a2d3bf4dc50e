package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cmd/isk/internal/transfer"
	"github.com/spf13/cobra"
)

func init() { register(moveCommands, newExport) }

func newExport(a *app) *cobra.Command {
	var f filter
	var format, output string
	c := &cobra.Command{
		Use:   "export",
		Short: "Export keys as CSV or JSON lines",
		Long: `Export writes keys, oldest first, so that isk import restores them exactly. It
has their hashes and no key. With --json it is an array, which isk import does
not read.

The CSV is for machines: a name that begins with =, +, - or @ stays as it is. A
spreadsheet would take it for a formula, and change hashes, times and numbers
too, so do not open it with one. A text with a carriage return stands as JSON,
after json:.

Each key is as it was when it was read, and not all are read at the same moment.
A row that cannot be read is told; the others are exported, and the exit code is
1. If export fails it says so, and the exit code is not 0: what it has written
to the standard output until then looks like a short list. --output leaves no
such file: it replaces the file at the end, or not at all. Nothing is written to
a terminal, since names stand as they are.`,
		Example: `  isk export --output keys.csv
  isk export --format jsonl --owner acme > acme.jsonl`,
		Args: noArguments,
		RunE: func(c *cobra.Command, args []string) error {
			filter, err := f.filter(c, a.now())
			if err != nil {
				return err
			}
			kind := transfer.Format(format)
			switch {
			case a.json && c.Flags().Changed("format"):
				return wrongUsage("--json and --format are two formats")
			case a.json:
				kind = transfer.Array
			case kind != transfer.CSV && kind != transfer.Lines:
				return wrongUsage("--format is csv or jsonl")
			case c.Flags().Changed("output") && output == "":
				return wrongUsage("--output is empty")
			}
			if output == "" && isTerminal(a.stdout) { // a name could control it
				return wrongUsage("an export is not for a terminal: give --output, or use a pipe; isk list shows keys")
			}
			s, err := a.open(c.Context())
			if err != nil {
				return err
			}
			file, err := a.create(output)
			if err != nil {
				return err
			}
			defer file.discard()
			progress := a.newProgress("%d keys exported")
			out := transfer.NewWriter(file, kind)
			refused := 0
			bad, err := a.each(s.keys.List(c.Context(), filter), func(r *auth.Record) error {
				err := out.Write(r)
				if row, ok := errors.AsType[*transfer.RecordError](err); ok {
					refused++
					a.warn("the record %s cannot be exported: %v", r.ID, row)
					return nil
				}
				progress.add(1)
				return err
			})
			if err == nil {
				err = out.Close()
			}
			if err == nil {
				err = file.commit()
			}
			progress.clear()
			if err != nil {
				return exportFailed(c.Context(), err)
			}
			if output != "" {
				a.say("Exported %s to %s.", count(int64(progress.done)), output)
			}
			return unreadable(bad + refused)
		},
	}
	f.add(c)
	c.Flags().StringVar(&format, "format", string(transfer.CSV), "csv or jsonl")
	c.Flags().StringVar(&output, "output", "", "a `file` to write, instead of the standard output")
	c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"csv", "jsonl"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// exportFailed returns what is told of an error. A reader that has gone is one,
// too: what it has is not all.
func exportFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &failure{code: "INTERRUPTED", exit: exitFailed, message: "interrupted; the export is not complete", err: err}
	}
	if errors.Is(err, errReaderGone) { // it would end the run with exit code 0
		return failf("the export is not complete: %v", err)
	}
	return fmt.Errorf("the export is not complete: %w", fileError(err))
}

// An outputFile is a file that is replaced at the end, or the standard output.
type outputFile struct {
	io.Writer
	temporary *os.File // nil for the standard output, and after the end
	path      string
}

// create returns the file that path names, or the standard output if it is
// empty. Only its owner can read it.
func (a *app) create(path string) (*outputFile, error) {
	if path == "" {
		return &outputFile{Writer: a.stdout}, nil
	}
	// Not through a symbolic link: in /tmp it can be another user's, and choose
	// which file is replaced.
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, wrongUsage("--output %s is not a regular file", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return nil, wrongUsage("--output %s: %w", path, fileError(err))
	}
	return &outputFile{f, f, path}, nil
}

// commit replaces the file.
func (f *outputFile) commit() error {
	if f.temporary == nil {
		return nil
	}
	if err := f.temporary.Sync(); err != nil {
		return err
	}
	if err := f.temporary.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.temporary.Name(), f.path); err != nil {
		return err
	}
	f.temporary = nil
	return nil
}

// discard removes what was not committed.
func (f *outputFile) discard() {
	if f.temporary != nil {
		f.temporary.Close()
		os.Remove(f.temporary.Name())
	}
}
