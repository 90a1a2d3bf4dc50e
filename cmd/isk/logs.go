package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/insigner/auth/sqlstore/sqlite"
	"github.com/spf13/cobra"
)

func init() { register(recordCommands, newLogs) }

func newLogs(a *app) *cobra.Command {
	var q apilog.Query
	var status, from, to string
	var limit int
	c := &cobra.Command{
		Use:   "logs",
		Short: "List the requests that keys made, newest first",
		Long: `Logs prints the API logs of the database, newest first. If they are in a file or
database of their own, name it by --database-file or --database. On a terminal
it is a table. Otherwise each entry is a line with the time, status, code,
method, path, duration, ID of the key, owner and address, separated by tabs.
With --json it is an array, which is [] if there is no entry.`,
		Example: `  isk logs --key 0198c2f4-7a3e-7b1c-9d5e-2f8a6b4c1d0e --from 7d
  isk logs --owner acme --status 4xx --limit 1000 --json`,
		Args: noArguments,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if err := notSetToNothing(c, "owner", "key", "status", "code", "from", "to"); err != nil {
				return err
			}
			if q.From, err = parseTime("--from", from, a.now(), -1); err != nil {
				return err
			}
			if q.To, err = parseTime("--to", to, a.now(), -1); err != nil {
				return err
			}
			if q.StatusFrom, q.StatusTo, err = parseStatus(status); err != nil {
				return err
			}
			if limit < 0 {
				return wrongUsage("--limit is negative")
			}
			s, err := a.connect(c.Context(), false)
			if err != nil {
				return err
			}
			if err := s.needs(c.Context(), postgres.DefaultLogsTable); err != nil {
				return err
			}
			logs, err := s.logs()
			if err != nil {
				return unavailable(err)
			}
			return a.listLogs(c, apilog.All(logs), q, limit)
		},
	}
	flags := c.Flags()
	flags.StringVar(&q.Owner, "owner", "", "only requests with keys of that owner")
	flags.StringVar(&q.KeyID, "key", "", "only requests with the key of that `ID`")
	flags.StringVar(&status, "status", "", "only answers with that status: 404, 4xx, 400-499")
	flags.StringVar(&q.Code, "code", "", "only refusals with that code: KEY_REVOKED")
	flags.StringVar(&from, "from", "", "only requests then or later: 24h (ago), a date, a `time`")
	flags.StringVar(&to, "to", "", "only requests earlier than that `time`")
	flags.IntVar(&limit, "limit", defaultLimit, "at most that many (0: all)")
	for _, name := range []string{"owner", "key", "status", "code", "from", "to"} {
		c.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	return c
}

// logsPage is how many entries are read at a time.
const logsPage = 500

func (a *app) listLogs(c *cobra.Command, reader *apilog.Reader, q apilog.Query, limit int) error {
	rows := a.newRows("TIME", "STATUS", "CODE", "METHOD", "PATH", "DURATION", "KEY", "OWNER", "ADDRESS")
	for n := 0; ; {
		q.Limit = logsPage
		entries, err := reader.List(c.Context(), q)
		if errors.Is(err, apilog.ErrInvalidQuery) {
			return wrongUsage("the flags select nothing: %w", err)
		}
		if err != nil {
			return unavailable(err)
		}
		for i := range entries {
			e := &entries[i]
			if n++; limit > 0 && n > limit {
				a.sayLimit(c, limit)
				return rows.end()
			}
			if a.json {
				err = rows.addJSON(entryOf(e))
			} else {
				err = rows.add(entryCells(e)...)
			}
			if err != nil {
				return err
			}
		}
		if len(entries) < logsPage {
			return rows.end()
		}
		q.After = entries[len(entries)-1].ID
	}
}

var statusForm = regexp.MustCompile(`^(?:([1-5])xx|([1-5][0-9][0-9])(?:-([1-5][0-9][0-9]))?)$`)

// parseStatus returns the first and the last status of 404, 4xx and 400-499.
func parseStatus(text string) (from, to int, err error) {
	if text == "" {
		return 0, 0, nil
	}
	m := statusForm.FindStringSubmatch(strings.ToLower(text))
	if m == nil {
		return 0, 0, wrongUsage("--status is a status such as 404, 4xx or 400-499")
	}
	if m[1] != "" {
		from = 100 * int(m[1][0]-'0')
		return from, from + 99, nil
	}
	from, _ = strconv.Atoi(m[2])
	to = from
	if m[3] != "" {
		to, _ = strconv.Atoi(m[3])
	}
	return from, to, nil
}

// An entryJSON is an entry of the API logs as --json has it.
type entryJSON struct {
	ID                   string  `json:"id"`
	Time                 string  `json:"time"`
	DurationMilliseconds float64 `json:"durationMilliseconds"`
	KeyID                string  `json:"keyId"`
	Owner                string  `json:"owner"`
	Method               string  `json:"method"`
	Route                string  `json:"route"`
	Path                 string  `json:"path"`
	Status               int     `json:"status"`
	Code                 string  `json:"code"`
	RequestBytes         int64   `json:"requestBytes"`
	ResponseBytes        int64   `json:"responseBytes"`
	RequestID            string  `json:"requestId"`
	UserAgent            string  `json:"userAgent"`
	RemoteAddr           string  `json:"remoteAddr"`

	Lost int64 `json:"lost"` // if not 0, this is no request, and so many were lost
}

func entryOf(e *apilog.Entry) entryJSON {
	j := entryJSON{ID: e.ID, Time: jsonTime(e.Time), DurationMilliseconds: milliseconds(e.Duration), KeyID: e.KeyID, Owner: e.Owner,
		Method: e.Method, Route: e.Route, Path: e.Path, Status: e.Status, Code: e.Code, RequestBytes: e.RequestBytes,
		ResponseBytes: e.ResponseBytes, RequestID: e.RequestID, UserAgent: e.UserAgent, Lost: e.Lost}
	if e.RemoteAddr.IsValid() {
		j.RemoteAddr = e.RemoteAddr.String()
	}
	return j
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func entryCells(e *apilog.Entry) []string {
	if e.Lost > 0 {
		return []string{timeText(e.Time), "-", "-", "-", fmt.Sprintf("%d requests were lost", e.Lost), "-", e.KeyID, e.Owner, "-"}
	}
	address := "-"
	if e.RemoteAddr.IsValid() {
		address = e.RemoteAddr.String()
	}
	return []string{timeText(e.Time), strconv.Itoa(e.Status), dash(e.Code), e.Method, e.Path, e.Duration.String(), dash(e.KeyID),
		dash(e.Owner), address}
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// A logStore is what both packages of sqlstore have for API logs.
type logStore interface {
	apilog.Store
	Migrate(ctx context.Context) error
}

// logs returns the API logs in the database of the session.
func (s *session) logs() (logStore, error) {
	logger := slog.New(slog.DiscardHandler)
	if s.kind == "sqlite" {
		return sqlite.NewLogs(s.db, &sqlite.LogsOptions{Logger: logger})
	}
	return postgres.NewLogs(s.db, &postgres.LogsOptions{Logger: logger})
}
