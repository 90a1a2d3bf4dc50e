package records

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore"
)

const (
	// A batch ends when it has so many records, or so many bytes of JSON.
	batchRecords = 500
	batchBytes   = 1 << 20

	// maxAnnounced is how many records of InsertAll are announced one by one.
	// If there are more, one announcement stands for all others.
	maxAnnounced = 1000
)

// InsertAll inserts all records or none. It calls records once. An error that
// records yields ends it.
func (s *Store) InsertAll(
	ctx context.Context, records iter.Seq2[*auth.Record, error], opts *sqlstore.InsertAllOptions,
) (int64, error) {
	if opts == nil {
		opts = new(sqlstore.InsertAllOptions)
	}
	b := bulk{store: s, opts: opts}
	err := b.insert(ctx, records)
	if b.refused.Total > 0 {
		err = errors.Join(err, &b.refused)
	}
	if err != nil {
		return 0, s.wrap("insert all", err)
	}
	return b.inserted, nil
}

// A bulk is a call of InsertAll.
type bulk struct {
	store    *Store
	opts     *sqlstore.InsertAllOptions
	refused  sqlstore.RefusedError
	inserted int64
	hashes   []auth.Hash // of the first maxAnnounced records

	tx      *sql.Tx // nil before the first batch
	wide    bool    // one announcement stands for all records to come
	endTurn func()
}

// A batch is some records that are inserted by one statement.
type batch struct {
	text []byte // a JSON array
	rows []identity
}

// An identity is what no two records share.
type identity struct {
	index int64
	id    string
	hash  auth.Hash
}

func (b *bulk) insert(ctx context.Context, records iter.Seq2[*auth.Record, error]) (err error) {
	if err := checkText(b.opts.By); err != nil {
		return fmt.Errorf("by: %w", err)
	}
	batches := b.batches(ctx, records)
	if b.store.dialect.Spool {
		sp, err := spooled(batches)
		defer sp.close()
		if err != nil {
			return err
		}
		if b.refused.Total > 0 {
			return nil // the error says it
		}
		batches = sp.batches
	}
	defer b.end()
	for batch, err := range batches {
		if err == nil {
			err = b.insertBatch(ctx, batch)
		}
		if err != nil {
			return err
		}
	}
	if b.tx == nil || b.refused.Total > 0 || b.opts.DryRun {
		return nil
	}
	if end := b.store.queries.end; end != "" {
		if _, err := b.tx.ExecContext(ctx, end); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// Also after an error, for the outcome may be unknown.
	defer b.announce()
	if err := b.tx.Commit(); err != nil {
		return fmt.Errorf("%w: %w", sqlstore.ErrOutcomeUnknown, err)
	}
	return nil
}

// refuse notes a record that cannot be inserted.
func (b *bulk) refuse(index int64, err error) {
	b.refused.Total++
	if len(b.refused.Refused) < sqlstore.MaxRefused {
		b.refused.Refused = append(b.refused.Refused, sqlstore.RefusedRecord{Index: index, Err: err})
	}
}

// announce tells the calls of Watch of this Store.
func (b *bulk) announce() {
	if b.inserted > int64(len(b.hashes)) {
		b.store.Watchers.reset()
	} else {
		b.store.Watchers.changed(b.hashes...)
	}
}

// begin begins the transaction when it is this writer's turn.
func (b *bulk) begin(ctx context.Context) (err error) {
	if b.store.Turn != nil {
		if b.endTurn, err = b.store.Turn(ctx); err != nil {
			return err
		}
	}
	if b.tx, err = b.store.db.BeginTx(ctx, nil); err != nil {
		return err
	}
	if first := b.store.dialect.BeginAll; first != "" {
		if _, err := b.tx.ExecContext(ctx, first); err != nil {
			return err
		}
	}
	_, err = b.tx.ExecContext(ctx, b.store.queries.actor, b.opts.By)
	return err
}

// end rolls back what was not committed.
func (b *bulk) end() {
	if b.tx != nil {
		b.tx.Rollback()
	}
	if b.endTurn != nil {
		b.endTurn()
	}
}

func (b *bulk) insertBatch(ctx context.Context, batch *batch) error {
	if b.tx == nil {
		if err := b.begin(ctx); err != nil {
			return err
		}
	}
	if wide := b.store.queries.wide; wide != "" && !b.wide && b.inserted >= maxAnnounced {
		if _, err := b.tx.ExecContext(ctx, wide); err != nil {
			return err
		}
		b.wide = true
	}
	inserted, err := b.insertRows(ctx, batch)
	if err != nil {
		return err
	}
	for i, row := range batch.rows {
		if inserted[i] {
			b.inserted++
			if len(b.hashes) < maxAnnounced {
				b.hashes = append(b.hashes, row.hash)
			}
			continue
		}
		why := errPrevented
		if len(b.refused.Refused) < sqlstore.MaxRefused {
			if why, err = b.why(ctx, row); err != nil {
				return err
			}
		}
		b.refuse(row.index, why)
	}
	if b.opts.Progress != nil {
		b.opts.Progress(b.inserted)
	}
	return nil
}

// insertRows inserts the records of a batch, except those whose ID or hash is
// taken. It returns which it has inserted.
func (b *bulk) insertRows(ctx context.Context, batch *batch) (inserted []bool, err error) {
	rows, err := b.tx.QueryContext(ctx, b.store.queries.insertAll, string(batch.text))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	returned := make(map[identity]bool, len(batch.rows))
	for rows.Next() {
		var i identity
		var hash []byte
		if err := rows.Scan(&i.id, &hash); err != nil {
			return nil, err
		}
		if len(hash) == len(i.hash) {
			i.hash = auth.Hash(hash)
		}
		returned[i] = true
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	inserted = make([]bool, len(batch.rows))
	for i, row := range batch.rows {
		row.index = 0
		inserted[i] = returned[row]
		delete(returned, row) // of two that are the same, the first is in
	}
	return inserted, nil
}

// why returns why a record was not inserted.
func (b *bulk) why(ctx context.Context, row identity) (why, err error) {
	var id, hash bool
	err = b.tx.QueryRowContext(ctx, b.store.queries.whichTaken, row.id, row.hash[:]).Scan(&id, &hash)
	switch {
	case err != nil:
		return nil, err
	case id && hash:
		return fmt.Errorf("%w: the ID and the hash are taken", keyring.ErrExists), nil
	case id:
		return fmt.Errorf("%w: the ID is taken", keyring.ErrExists), nil
	case hash:
		return fmt.Errorf("%w: the hash is taken", keyring.ErrExists), nil
	}
	return fmt.Errorf("the database did not insert it: %w, or a unique index of your own", errPrevented), nil
}

// batches encodes the records. It refuses those that cannot be stored.
func (b *bulk) batches(ctx context.Context, records iter.Seq2[*auth.Record, error]) iter.Seq2[*batch, error] {
	return func(yield func(*batch, error) bool) {
		next := new(batch)
		index := int64(-1)
		for r, err := range records {
			index++
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if err := next.add(b.store.dialect, index, r); err != nil {
				b.refuse(index, err)
				continue
			}
			if len(next.rows) == batchRecords || len(next.text) >= batchBytes {
				next.text = append(next.text, ']')
				if !yield(next, nil) {
					return
				}
				next = &batch{text: next.text[:0]}
			}
		}
		if len(next.rows) > 0 {
			next.text = append(next.text, ']')
			yield(next, nil)
		}
	}
}

// add adds a record to the JSON array of objects, each with a member for every
// column.
func (b *batch) add(d *Dialect, index int64, r *auth.Record) error {
	if r == nil {
		return errors.New("the record is nil")
	}
	before := len(b.text)
	separator := byte(',')
	if len(b.rows) == 0 {
		separator = '['
	}
	text := append(b.text, separator)
	for i, c := range columns {
		separator = ','
		if i == 0 {
			separator = '{'
		}
		text = append(text, separator, '"')
		text = append(text, c.name...)
		text = append(text, `":`...)
		value, err := c.value(d, r)
		if err == nil && c.name == "id" && r.ID == "" {
			err = errNoID
		}
		if err == nil {
			text, err = appendJSON(text, value)
		}
		if err != nil {
			b.text = text[:before]
			return fmt.Errorf("column %s: %w", c.name, err)
		}
	}
	b.text = append(text, '}')
	b.rows = append(b.rows, identity{index, r.ID, r.Hash})
	return nil
}

var errNoID = errors.New("the record has no ID")

// appendJSON appends the value of a column. SQL makes of it what the driver
// makes of the value itself.
func appendJSON(text []byte, value any) ([]byte, error) {
	switch value := value.(type) {
	case nil:
		return append(text, "null"...), nil
	case string:
		quoted, err := json.Marshal(value)
		return append(text, quoted...), err
	case []byte:
		text = append(text, '"')
		text = hex.AppendEncode(text, value)
		return append(text, '"'), nil
	case int64:
		return strconv.AppendInt(text, value, 10), nil
	case time.Time:
		text = append(text, '"')
		text = value.AppendFormat(text, time.RFC3339Nano)
		return append(text, '"'), nil
	}
	return text, fmt.Errorf("a value of type %T", value)
}
