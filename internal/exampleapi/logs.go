package exampleapi

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
)

// An entry is a request as customers see it.
type entry struct {
	ID     string    `json:"id"`
	Time   time.Time `json:"time"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Status int       `json:"status"`
	Code   string    `json:"code,omitempty"`
	KeyID  string    `json:"keyId"`
	Lost   int64     `json:"lost,omitempty"`
}

// listLogs answers with the requests of the owner of the key, newest first. The
// parameters limit and cursor select a page.
func listLogs(logs apilog.Store) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, wrong := logQuery(r.URL.RawQuery)
		if wrong != "" {
			writeProblem(w, http.StatusBadRequest, "bad-request", wrong)
			return
		}
		limit := q.Limit
		q.Limit++ // one more tells whether there is another page
		key, _ := auth.FromContext(r.Context())
		found, err := apilog.For(logs, key.Owner).List(r.Context(), q)
		if errors.Is(err, apilog.ErrInvalidQuery) {
			writeProblem(w, http.StatusBadRequest, "bad-request", "The cursor is not one of this list")
			return
		}
		if err != nil {
			writeProblem(w, http.StatusServiceUnavailable, "service-unavailable", "The logs cannot be read now")
			return
		}
		cursor := ""
		if len(found) > limit {
			found = found[:limit]
			cursor = found[limit-1].ID
		}
		page := []entry{}
		for _, e := range found {
			page = append(page, entry{e.ID, e.Time, e.Method, e.Path, e.Status, e.Code, e.KeyID, e.Lost})
		}
		writePage(w, page, cursor)
	}
}

// logQuery returns what the parameters of a request select. What is unknown or
// wrong is said in wrong.
func logQuery(rawQuery string) (q apilog.Query, wrong string) {
	q.Limit = 50
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return q, "The query is malformed"
	}
	for name, list := range values {
		if len(list) != 1 {
			return q, "A parameter occurs twice"
		}
		switch value := list[0]; name {
		case "limit":
			if q.Limit, err = strconv.Atoi(value); err != nil || q.Limit < 1 || q.Limit > 200 {
				return q, "The limit must be an integer from 1 to 200"
			}
		case "cursor":
			if q.After = value; value == "" {
				return q, "The cursor is empty"
			}
		default:
			return q, "A parameter is unknown; there are limit and cursor"
		}
	}
	return q, ""
}
