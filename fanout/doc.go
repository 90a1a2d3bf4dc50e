// Package fanout carries the changes of keys from a few processes to thousands.
//
// PostgreSQL pushes changes to as many instances as it can hold connections
// for. With more instances, two or more processes watch the database, and
// publish what they hear through a broker such as Redis:
//
//	conn := fanout.NewRedis(redis.NewClient(&redis.Options{Addr: addr}))
//	opts := &fanout.Options{Secret: secret}
//	err := fanout.Publish(ctx, store, conn, opts) // store is an auth.Watcher
//
// All other instances hear of changes from the broker, and look keys up in the
// database:
//
//	watcher := fanout.New(store, conn, opts)
//	cached := cache.New(watcher, nil)
//	defer cached.Close()
//	a := auth.New(cached, nil)
//
// # How late a revocation is seen
//
// As a rule it takes milliseconds. If anything fails, freezes or is cut off, be
// it the broker, the database, a publisher or the network, a cache that
// believes itself watched does so for Options.LostAfter at most, which is 5
// seconds unless set. Only if the Watcher of a publisher falls silent, while the
// same store answers lookups, may it use a record that was changed longer ago:
// up to LostAfter and Options.WatchBound together, which is 20 seconds unless
// set.
//
// A client of Redis does not tell that its server is frozen, or that it was
// disconnected for a moment. So publishers send a beat five times in LostAfter.
// Before each one, the publisher looks a random hash up, which shows that the
// store answers. Each message carries the publisher's epoch, a number, the time
// of the publisher, and when that lookup began. If a number is missing, or the
// epoch is a new one, the subscriber reports [auth.WatchLost] and
// [auth.WatchStarted], so that a cache discards its copies. If beats stop, or
// the lookup is LostAfter ago, it reports WatchLost.
//
// What is late cannot be told from the numbers alone: a connection may deliver
// an old message after any time. So a subscriber sends a hello with a random
// number, which the publisher repeats in its next message. That message, and
// the time in it, is then known to be younger than the hello. From there on,
// the times in later messages tell how old those are. No two clocks need to
// agree; they need to run equally fast, to 1 in 1,000.
//
// # Several publishers
//
// Run two publishers or more. A subscriber follows each of them, and stays
// content while one of them is complete, so the end of one is not noticed. What
// two publishers report twice does no harm.
//
// # What reaches the subscribers
//
// Each change that the publishers' Watcher reports, whichever program made it.
// A change made through the store that New gets is no exception: it is reported
// when the message arrives, and not before the call that made it returns.
//
// The store that New gets must read where the changes are made: from the primary
// server, not from a replica. A change reports a hash and no revision, so a
// lookup in a replica that lags would bring back what was just discarded.
//
// # Security
//
// Everything is authenticated with Options.Secret. So somebody who may only
// publish on the broker, and has recorded what was published before, cannot keep
// a revoked key in use: forged and repeated messages are ignored. By flooding
// the broker he can make the watch be lost. Then each key is looked up in the
// database, as without this package. Messages hold hashes of keys, and no keys.
//
// # Bounds
//
// A publisher keeps at most 65,536 changes that are not sent yet (2 MB) and
// 4,096 hellos that are not answered yet (64 kB). A subscriber follows at most
// 16 publishers, and keeps at most 10,000 records while its watch is lost.
// Messages of more than 9,000 bytes are ignored. A publisher sends at most 50
// answers to hellos in LostAfter, with 256 hellos each.
package fanout
