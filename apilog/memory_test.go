package apilog_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth/apilog"
)

// at returns an entry of i seconds after noon.
func at(i int) apilog.Entry {
	t := noon.Add(time.Duration(i) * time.Second)
	return apilog.Entry{ID: apilog.NewID(t), Time: t, Owner: fmt.Sprint("org_", i%2), Path: fmt.Sprint("/", i)}
}

// pathsOf returns the paths of all entries, newest first.
func pathsOf(t *testing.T, s apilog.Store) string {
	t.Helper()
	list, err := s.List(ctx, apilog.Query{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, e := range list {
		paths = append(paths, e.Path)
	}
	return strings.Join(paths, " ")
}

func TestNewMemoryStorePanics(t *testing.T) {
	wantPanic(t, "apilog.NewMemoryStore(0): not positive", func() { apilog.NewMemoryStore(0) })
	wantPanic(t, "apilog.NewMemoryStore(-1): not positive", func() { apilog.NewMemoryStore(-1) })
}

func TestMemoryStoreKeepsTheNewest(t *testing.T) {
	for _, c := range []struct {
		what    string
		batches [][]int
		want    string
	}{
		{"fewer", [][]int{{1, 2}}, "/2 /1"},
		{"as many", [][]int{{1, 2}, {3}}, "/3 /2 /1"},
		{"one by one", [][]int{{1}, {2}, {3}, {4}, {5}}, "/5 /4 /3"},
		{"one batch", [][]int{{1, 2, 3, 4, 5}}, "/5 /4 /3"},
		{"one batch in reverse", [][]int{{5, 4, 3, 2, 1}}, "/5 /4 /3"},
		{"a full batch", [][]int{{1, 2, 3}, {4, 5, 6}}, "/6 /5 /4"},
		{"old ones", [][]int{{4, 5, 6}, {1, 2, 3}}, "/6 /5 /4"},
		{"one in between", [][]int{{1, 3, 5}, {4}}, "/5 /4 /3"},
		{"some in between", [][]int{{2, 6, 9}, {8, 1, 7, 10}}, "/10 /9 /8"},
		{"one that is too old", [][]int{{2, 3, 4}, {1}}, "/4 /3 /2"},
	} {
		s := apilog.NewMemoryStore(3)
		for _, batch := range c.batches {
			var entries []apilog.Entry
			for _, i := range batch {
				entries = append(entries, at(i))
			}
			if err := s.Append(ctx, entries); err != nil {
				t.Fatal(err)
			}
		}
		if got := pathsOf(t, s); got != c.want {
			t.Errorf("%s: got %s, want %s", c.what, got, c.want)
		}
	}
}

func TestMemoryStoreForgetsIDs(t *testing.T) {
	s := apilog.NewMemoryStore(2)
	first, second, third := at(1), at(2), at(3)
	s.Append(ctx, []apilog.Entry{first, second, third})
	s.Append(ctx, []apilog.Entry{first}) // too old
	if got, want := pathsOf(t, s), "/3 /2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if n, err := s.DeleteBefore(ctx, third.Time); n != 1 || err != nil {
		t.Errorf("DeleteBefore: %d, %v, want 1", n, err)
	}
	s.Append(ctx, []apilog.Entry{first}) // there is room again
	if got, want := pathsOf(t, s), "/3 /1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	page, err := s.List(ctx, apilog.Query{After: second.ID})
	if err != nil {
		t.Fatal(err)
	}
	if len(page) != 1 || page[0] != first {
		t.Errorf("after one that is gone: got %v, want the first one", page)
	}
}

func TestMemoryStoreDelete(t *testing.T) {
	s := apilog.NewMemoryStore(6)
	for i := range 10 {
		s.Append(ctx, []apilog.Entry{at(i)})
	}
	if n, err := s.DeleteOwner(ctx, "org_1"); n != 3 || err != nil {
		t.Errorf("DeleteOwner: %d, %v, want 3", n, err)
	}
	if got, want := pathsOf(t, s), "/8 /6 /4"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s.Append(ctx, []apilog.Entry{at(11), at(5), at(3), at(1), at(12)}) // the room is for 6
	if got, want := pathsOf(t, s), "/12 /11 /8 /6 /5 /4"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if n, err := s.DeleteBefore(ctx, noon.Add(8*time.Second)); n != 3 || err != nil {
		t.Errorf("DeleteBefore: %d, %v, want 3", n, err)
	}
	if got, want := pathsOf(t, s), "/12 /11 /8"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if n, err := s.DeleteOwner(ctx, ""); n != 0 || err == nil {
		t.Errorf("DeleteOwner of nobody: %d, %v, want an error", n, err)
	}
}

// An ID of NewID may belong to an entry of another time: it was before 1970, or
// the host has changed it.
func TestMemoryStoreAfterOddTimes(t *testing.T) {
	s := apilog.NewMemoryStore(10)
	var list []apilog.Entry
	for i := range 4 {
		e := at(i)
		e.Time = time.Date(1960+i, 1, 1, 0, 0, 0, 0, time.UTC)
		e.ID = apilog.NewID(e.Time)
		list = append(list, e)
	}
	s.Append(ctx, list)
	page, err := s.List(ctx, apilog.Query{After: list[2].ID})
	if err != nil {
		t.Fatal(err)
	}
	if want := []apilog.Entry{list[1], list[0]}; !slices.Equal(page, want) {
		t.Errorf("got %v, want %v", page, want)
	}
}

func TestMemoryStoreDoesNotGrow(t *testing.T) {
	s := apilog.NewMemoryStore(100)
	held := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := held()
	for i := range 20_000 { // 40 MB in all
		e := at(i)
		e.Path = strings.Repeat("x", 2000)
		s.Append(ctx, []apilog.Entry{e})
	}
	if after := held(); after > before+10<<20 {
		t.Errorf("the heap grew by %d MB, with 100 entries of 2 kB", (after-before)>>20)
	}
	runtime.KeepAlive(s)
}

// Entries that come a little late, as those of slow requests, cost no more.
func BenchmarkMemoryStoreAppend(b *testing.B) {
	for _, late := range []int{0, 100} {
		b.Run(fmt.Sprint("late=", late), func(b *testing.B) {
			s := apilog.NewMemoryStore(100_000)
			for i := 0; b.Loop(); i++ {
				s.Append(ctx, []apilog.Entry{at(i - i%2*late)})
			}
		})
	}
}
