package fanout_test

import (
	"testing"
	"testing/synctest"

	"github.com/insigner/auth/fanout"
	"github.com/insigner/auth/keyring"
)

// What a publisher hears of is reported to all subscribers.
func TestChangesArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, conn := new(keyring.MemoryStore), new(broker)
		publish(t, store, conn, options())
		var all []*watch
		for range 10 {
			all = append(all, watchOf(t, fanout.New(store, conn, options())))
		}
		for _, w := range all {
			w.expect(started)
		}
		r := insert(t, store)
		for _, w := range all {
			w.expect(changed(r))
		}
	})
}
