package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/insigner/auth"
)

// A bulk changes keys one after another. A single failure does not end it.
type bulk struct {
	a        *app
	did      string // "Revoked"
	member   string // of the JSON: "revokedKeys"
	done     []string
	failures []failureJSON
	last     error // the last failure
	failed   map[string]bool
	unknown  string // the ID of the key that was being changed when the run was interrupted
	inARow   int    // failures of the store
	progress *progress
}

// A failureJSON is a key that a bulk could not change.
type failureJSON struct {
	ID      string `json:"id"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

const (
	maxInARow = 10 // failures of the store; then it is down
	maxTold   = 20 // keys that are told one by one
)

// newBulk returns a bulk for about total keys.
func (a *app) newBulk(did, member string, total int) *bulk {
	return &bulk{a: a, did: did, member: member, done: []string{}, failures: []failureJSON{}, failed: make(map[string]bool),
		progress: a.newProgress(did + " %d of " + keysText(total))}
}

// try calls change for a key, named as in messages. It returns an error only if
// it is of no use to go on.
func (b *bulk) try(ctx context.Context, id, name string, change func(context.Context, string) error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err := change(ctx, id)
	if err == nil {
		b.done = append(b.done, id)
		b.inARow = 0
		if len(b.done) <= maxTold {
			b.progress.clear()
			b.a.say("%s the key %s.", b.did, name)
		}
		b.progress.add(1)
		return nil
	}
	if ctx.Err() != nil {
		b.unknown = id
		return err
	}
	b.last = err
	b.failed[id] = true
	f := asFailure(ctx, err)
	message := b.a.safe(f.message)
	if len(b.failures) < maxWarnings {
		b.failures = append(b.failures, failureJSON{id, f.code, message})
	}
	if !b.a.json {
		b.progress.clear()
		b.a.tell("isk: ", id+": "+f.message)
	}
	if _, ok := errors.AsType[*storeError](err); !ok {
		b.inARow = 0
		return nil
	}
	if b.inARow++; b.inARow >= maxInARow {
		return err
	}
	return nil
}

// end tells what was done. Err is why it ended early, and bad how many records
// could not be read.
func (b *bulk) end(ctx context.Context, err error, bad int) error {
	b.progress.clear()
	result := map[string]any{b.member: b.done, "failures": b.failures}
	if err == nil && len(b.failed) == 0 && bad == 0 {
		if b.a.json {
			return b.a.writeJSON(result)
		}
		if len(b.done) != 1 {
			b.a.say("%s %s.", b.did, keysText(len(b.done)))
		}
		return nil
	}
	f := &failure{code: "INCOMPLETE", exit: exitFailed, err: err, more: result}
	f.message = fmt.Sprintf("%s %s", b.did, keysText(len(b.done)))
	if n := len(b.failed); n > 0 {
		f.message += fmt.Sprintf("; %s failed", keysText(n))
	}
	if bad > 0 {
		f.message += fmt.Sprintf("; records that cannot be read: %d", bad)
	}
	switch {
	case ctx.Err() != nil:
		f.code = "INTERRUPTED"
		f.message = "interrupted: " + f.message
		if b.unknown != "" { // the database may have got the change
			f.message += "; that of " + b.unknown + " may have been done too"
		}
	case err != nil:
		f.message += "; it ended early: " + asFailure(ctx, err).message
	}
	if len(b.done) == 0 && bad == 0 && ctx.Err() == nil {
		// Nothing was done, for one reason: it decides.
		if cause := asFailure(ctx, errors.Join(b.last, err)); len(b.failed) <= 1 || cause.exit == exitUnavailable {
			f.code, f.exit = cause.code, cause.exit
			if len(b.failed) <= 1 {
				f.message = cause.message
			}
		}
	}
	return f
}

// changeIDs changes the keys with these IDs.
func (a *app) changeIDs(ctx context.Context, did, member string, ids []string, change func(context.Context, string) error) error {
	b := a.newBulk(did, member, len(ids))
	for _, id := range ids {
		if err := b.try(ctx, id, id, change); err != nil {
			return b.end(ctx, err, 0)
		}
	}
	return b.end(ctx, nil, 0)
}

// count returns how many keys a list has, and how many records in it cannot be
// read, without telling about them.
func (a *app) count(list func(func(auth.Record, error) bool), want func(*auth.Record) bool) (n int, err error) {
	silent := &app{json: true, now: a.now} // its warnings are dropped
	_, err = silent.each(list, func(r *auth.Record) error {
		if want(r) {
			n++
		}
		return nil
	})
	return n, err
}
