package records

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"errors"
	"io"
	"iter"
	"os"
)

// A spool keeps batches until all of them are known. What exceeds the first is
// in a temporary file that only its owner can read. It holds hashes and no key.
type spool struct {
	file *os.File // nil as long as the first batch is the only one
	one  *batch
}

// spooledBatch is what the file holds of a batch.
type spooledBatch struct {
	Text    []byte
	Indexes []int64
	IDs     []string
	Hashes  [][32]byte
}

// spooled reads all batches. The caller closes the spool, also after an error.
func spooled(batches iter.Seq2[*batch, error]) (*spool, error) {
	s := new(spool)
	var out *bufio.Writer
	var encoder *gob.Encoder
	for b, err := range batches {
		if err != nil {
			return s, err
		}
		if s.one == nil {
			s.one = &batch{bytes.Clone(b.text), b.rows}
			continue
		}
		if s.file == nil {
			if s.file, err = os.CreateTemp("", "auth-insert-*"); err != nil {
				return s, err
			}
			os.Remove(s.file.Name()) // on Windows close does it
			out = bufio.NewWriter(s.file)
			encoder = gob.NewEncoder(out)
		}
		if err := encoder.Encode(b.spooled()); err != nil {
			return s, err
		}
	}
	if s.file == nil {
		return s, nil
	}
	if err := out.Flush(); err != nil {
		return s, err
	}
	_, err := s.file.Seek(0, io.SeekStart)
	return s, err
}

// batches yields what was read.
func (s *spool) batches(yield func(*batch, error) bool) {
	if s.one == nil || !yield(s.one, nil) || s.file == nil {
		return
	}
	decoder := gob.NewDecoder(bufio.NewReader(s.file))
	for {
		var b spooledBatch
		err := decoder.Decode(&b)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			yield(nil, err)
			return
		}
		if !yield(b.batch(), nil) {
			return
		}
	}
}

func (s *spool) close() {
	if s.file != nil {
		s.file.Close()
		os.Remove(s.file.Name())
	}
}

func (b *batch) spooled() *spooledBatch {
	s := &spooledBatch{Text: b.text}
	for _, row := range b.rows {
		s.Indexes = append(s.Indexes, row.index)
		s.IDs = append(s.IDs, row.id)
		s.Hashes = append(s.Hashes, row.hash)
	}
	return s
}

func (s *spooledBatch) batch() *batch {
	b := &batch{text: s.Text}
	for i, index := range s.Indexes {
		b.rows = append(b.rows, identity{index, s.IDs[i], s.Hashes[i]})
	}
	return b
}
