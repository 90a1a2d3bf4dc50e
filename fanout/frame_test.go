package fanout_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/fanout"
)

// What is accepted as a message has one spelling. Nothing makes it panic.
func FuzzFrame(f *testing.F) {
	head := append([]byte{1, 0}, make([]byte, 16+5*8+2+2)...)
	full := append(slices.Clone(head), make([]byte, 32+16)...)
	full[59], full[61] = 1, 1 // a hash and a nonce
	end := slices.Clone(head)
	end[1] = 1
	huge := slices.Clone(head)
	copy(huge[58:], "\xff\xff\xff\xff")
	for _, seed := range [][]byte{nil, {1}, head, full, end, huge, full[:len(full)-1], append([]byte{1}, head[:16]...)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		if again, ok := fanout.EncodeAgain(message); ok && !bytes.Equal(again, message) {
			t.Errorf("%x becomes %x", message, again)
		}
		if again, ok := fanout.EncodeHelloAgain(message); ok && !bytes.Equal(again, message) {
			t.Errorf("the hello %x becomes %x", message, again)
		}
	})
}

func TestFrames(t *testing.T) {
	head := append([]byte{1, 0}, make([]byte, 16+5*8+2+2)...)
	with := func(i int, b byte) []byte { m := slices.Clone(head); m[i] = b; return m }
	for what, c := range map[string]struct {
		message []byte
		ok      bool
	}{
		"the smallest":         {head, true},
		"a number":             {with(25, 7), true},
		"no version":           {with(0, 0), false},
		"another version":      {with(0, 2), false},
		"an unknown flag":      {with(1, 2), false},
		"a negative time":      {with(26, 0x80), false},
		"proven after its now": {with(41, 1), false},
		"a hash is missing":    {with(59, 1), false},
		"a nonce is missing":   {with(61, 1), false},
		"truncated":            {head[:len(head)-1], false},
		"too long":             {append(slices.Clone(head), 0), false},
	} {
		if _, ok := fanout.EncodeAgain(c.message); ok != c.ok {
			t.Errorf("%s: accepted is %v, want %v", what, ok, c.ok)
		}
	}
	if largest, limit := fanout.LargestSealed(); largest > limit {
		t.Errorf("the largest message has %d bytes, but %d are accepted", largest, limit)
	}
}

// The time in a message counts from the hello that an earlier one answered.
func TestTimesOfMessages(t *testing.T) {
	const old = 10 * time.Minute // of the publisher
	for what, c := range map[string]struct {
		came, publisher, proven time.Duration // since the hello
		want                    bool          // whether it stays watched
	}{
		"fresh":                             {time.Second, time.Second, time.Second, true},
		"late":                              {4 * time.Second, 0, 0, true},
		"too late":                          {4900 * time.Millisecond, 0, -200 * time.Millisecond, false},
		"an old proof":                      {time.Second, time.Second, -3900 * time.Millisecond, true},
		"too old a proof":                   {time.Second, time.Second, -4 * time.Second, false},
		"of the future, as our clock stood": {time.Second, 2 * time.Second, time.Second, false},
	} {
		watched := false
		f := fanout.NewFollower(options(), func(c auth.Change) { watched = c.Kind == auth.WatchStarted })
		asked := time.Now()
		f.Hello(asked)
		f.Receive(asked.Add(time.Millisecond), old, old)
		if !watched {
			t.Errorf("%s: the answer does not start the watch", what)
		}
		f.Receive(asked.Add(c.came), old+c.publisher, old+c.proven)
		if watched != c.want {
			t.Errorf("%s: watched is %v, want %v", what, watched, c.want)
		}
	}
}
