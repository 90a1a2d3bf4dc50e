// Package dashboard serves the pages on which customers manage their API keys:
// the list of keys, create, edit, rotate and revoke, the activity, and the API
// logs. It needs no JavaScript, no build step and no other host.
//
//	pages := dashboard.New(dashboard.Options{
//		Manager: manager,
//		Viewer:  viewerOf, // who is signed in, by your session
//		Logs:    logs,
//		Prefix:  "/developers/",
//	})
//	mux.Handle("/developers/", pages)
//
// # Who sees what
//
// [Options.Viewer] says who is signed in. A viewer sees and changes what a
// keyring.Keyring that is confined to this actor permits: the keys of one owner,
// and no scope that the actor does not hold. The key of another owner answers
// 404, as if there were none. The logs come from an apilog.Reader that is
// confined to the owner. The pages have no rules of their own.
//
// A viewer with Staff sees the keys of every owner. Options.OnStaffRead is called
// before a page shows them.
//
// # Security
//
// A key is shown in one response, that of the POST which created it. It is
// neither stored nor in a URL. All changes are POSTs, which
// http.CrossOriginProtection checks. Each form carries who was signed in when it
// was made: a POST from another session is 409. The pages send a
// Content-Security-Policy without inline scripts and styles, and are never
// cached.
//
// If the host sets a Content-Security-Policy of its own before it calls the
// handler, browsers obey both.
package dashboard
