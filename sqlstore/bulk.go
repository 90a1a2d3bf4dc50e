package sqlstore

import (
	"errors"
	"fmt"
)

// InsertAllOptions configures InsertAll of a Store. The zero InsertAllOptions
// are valid.
type InsertAllOptions struct {
	// By is who inserts the records. It is By of their events. The records keep
	// their CreatedBy.
	By string

	// DryRun makes InsertAll check everything as otherwise, and write nothing.
	DryRun bool

	// Progress, if not nil, is called after each batch with the number of
	// records that the database has taken so far. They are not committed yet.
	Progress func(n int64)
}

// ErrOutcomeUnknown is what an error of InsertAll matches if the database did not
// confirm the commit: either all records were inserted or none.
var ErrOutcomeUnknown = errors.New("the outcome of the commit is unknown")

// MaxRefused is how many records a [RefusedError] names.
const MaxRefused = 100

// A RefusedError says which records InsertAll cannot insert. It matches
// keyring.ErrExists if one of those that it names has a taken ID or hash. No
// text in it is that of a record.
type RefusedError struct {
	Refused []RefusedRecord // the first MaxRefused of them, in the order of their Index
	Total   int64           // how many there are
}

// A RefusedRecord is one that cannot be inserted, and why.
type RefusedRecord struct {
	Index int64 // of the record among those given, from 0
	Err   error
}

// Error names the first record.
func (e *RefusedError) Error() string {
	if len(e.Refused) == 0 {
		return "no record was refused"
	}
	text := fmt.Sprintf("record %d cannot be inserted: %v", e.Refused[0].Index, e.Refused[0].Err)
	if e.Total > 1 {
		text += fmt.Sprintf(" (and %d more)", e.Total-1)
	}
	return text
}

// Unwrap returns the errors of the records that it names.
func (e *RefusedError) Unwrap() []error {
	errs := make([]error, len(e.Refused))
	for i, r := range e.Refused {
		errs[i] = r.Err
	}
	return errs
}
