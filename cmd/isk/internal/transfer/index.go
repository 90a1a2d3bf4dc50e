package transfer

import "sort"

// A LineIndex keeps the line of each record, by its number from 0. It needs
// memory only where a record does not begin on the line after the one before.
type LineIndex struct {
	runs []lineRun
	n    int64
}

// A lineRun is records on consecutive lines.
type lineRun struct {
	record int64 // the first
	line   int
}

// Add adds the next record.
func (x *LineIndex) Add(line int) {
	if len(x.runs) == 0 || x.runs[len(x.runs)-1].at(x.n) != line {
		x.runs = append(x.runs, lineRun{x.n, line})
	}
	x.n++
}

func (r lineRun) at(record int64) int { return r.line + int(record-r.record) }

// Line returns the line of a record that was added, or 0.
func (x *LineIndex) Line(record int64) int {
	i := sort.Search(len(x.runs), func(i int) bool { return x.runs[i].record > record })
	if i == 0 || record >= x.n {
		return 0
	}
	return x.runs[i-1].at(record)
}
