// Package apilog records who called what with which key: an [Entry] for each
// request, written to a [Store] in the background. It answers the question that
// a customer has after a leak: what was done with my key, and from where?
//
//	logs, err := postgres.NewLogs(db, nil) // or sqlite.NewLogs, or your own Store
//	...
//	recorder := apilog.NewRecorder(logs, nil)
//	a := auth.New(store, &auth.Options{OnDecision: recorder.OnDecision})
//
//	mux := http.NewServeMux()
//	mux.Handle("GET /documents", a.Require("documents.read")(listDocuments))
//	server := &http.Server{Handler: recorder.Middleware(mux)} // outermost
//	...
//	server.Shutdown(ctx)
//	recorder.Close(ctx)
//
// # What is recorded
//
// The method, the route, the path, the status and the code of a refusal, the
// sizes and the duration, the key and its owner, X-Request-Id, User-Agent and
// the client's address. Never recorded are keys, query strings, bodies and
// other header fields. A key that a client puts into the path or into one of
// the header fields is replaced by "[key]", however it is escaped.
// Options.Redact removes more.
//
// # What is lost
//
// No request waits for the store. A [Recorder] has a queue of bounded size. If
// it is full, or if the store fails, entries are lost. They are counted for
// each key. The count becomes an entry itself, with Lost set, so that a gap can
// be seen.
//
// A key can fill only a sixteenth of the queue, and all keys of an owner only an
// eighth. So nobody can remove the traces of others by a flood of requests. Of
// the refusals of a key 20 a second are kept, and of those of an owner 100, so
// that a client that goes on with a revoked key does not remove its own. Of the
// requests without a known key, only some are kept. All others are counted.
//
// # Reading
//
// [For] returns a [Reader] of the entries of one owner, and [All] one of all
// entries. Give a page or an endpoint a Reader, never the Store.
package apilog
