package dashboard_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/dashboard"
	"github.com/insigner/auth/keyring"
)

// A hookedStore fails where a test wants it to.
type hookedStore struct {
	*keyring.MemoryStore
	get    func(id string) error
	list   func(q keyring.Query) error
	events func(q keyring.EventQuery) error
	update func(r *auth.Record) error
}

func (s *hookedStore) Get(ctx context.Context, id string) (*auth.Record, error) {
	if s.get != nil {
		if err := s.get(id); err != nil {
			return nil, err
		}
	}
	return s.MemoryStore.Get(ctx, id)
}

func (s *hookedStore) List(ctx context.Context, q keyring.Query) ([]*auth.Record, error) {
	if s.list != nil {
		if err := s.list(q); err != nil {
			return nil, err
		}
	}
	return s.MemoryStore.List(ctx, q)
}

func (s *hookedStore) Events(ctx context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
	if s.events != nil {
		if err := s.events(q); err != nil {
			return nil, err
		}
	}
	return s.MemoryStore.Events(ctx, q)
}

func (s *hookedStore) Update(ctx context.Context, r, successor *auth.Record) error {
	if s.update != nil {
		if err := s.update(r); err != nil {
			return err
		}
	}
	return s.MemoryStore.Update(ctx, r, successor)
}

// hooked returns a site with a store that can fail.
func hooked(t *testing.T, changes ...func(o *dashboard.Options, k *keyring.Options)) (*site, *hookedStore) {
	s := newSite(t, changes...)
	store := &hookedStore{MemoryStore: s.store}
	k := s.manager.Options()
	s.manager = keyring.NewManager(store, &k)
	o := dashboard.Options{Manager: s.manager, Logs: s.logs, Prefix: prefix, Logger: quiet,
		Viewer: func(http.ResponseWriter, *http.Request) (dashboard.Viewer, bool) { return s.viewer, true }}
	for _, change := range changes {
		change(&o, &k)
	}
	o.Manager = s.manager
	s.Handler = dashboard.New(o)
	return s, store
}

var errAway = errors.New("away")

// A key that is entered in some disguise is in no URL, and the store gets it only
// as a hash.
func TestKeysInDisguise(t *testing.T) {
	s, store := hooked(t)
	r, key, err := s.manager.Unconfined("setup").Create(ctx, keyring.Spec{Name: "Mine", Owner: "acme"})
	must(t, err)
	secret := key.Reveal()
	store.get = func(id string) error {
		if strings.Contains(id, secret[10:20]) {
			t.Errorf("the store is asked for %q", id)
		}
		return nil
	}
	for _, text := range []string{secret, "bearer " + secret, "Bearer\t" + secret, `"` + secret + `"`, "'" + secret + "'", "<" + secret + ">",
		"API_KEY=" + secret, "Authorization: Bearer " + secret, "x" + secret, secret + ".", secret + "more", secret[4:], "key " + secret + " here"} {
		equal(t, text, s.post("search", url.Values{"q": {text}}).goes(), "keys/"+r.ID)
	}
	for _, text := range []string{secret[:40], secret[:40] + "…", "x=" + secret[:30], secret[4:30], secret[20:], "isk_aé" + secret[5:30], secret[4:24] + "..."} {
		to := s.post("search", url.Values{"q": {text}}).goes()
		if strings.Contains(to, secret[12:20]) || strings.Contains(to, secret[24:28]) && len(to) > 8 {
			t.Errorf("%q leads to %q", text, to)
		}
	}
	for _, text := range []string{"Production Backend", "production-backend-of-the-website", r.ID, r.Hint, "Ünïcode"} {
		equal(t, text, s.post("search", url.Values{"q": {text}}).goes(), "?"+url.Values{"q": {text}}.Encode())
	}
}

// A search for what a key made may fail. The key is revoked nevertheless.
func TestRevokeWithoutSearch(t *testing.T) {
	for name, break_ := range map[string]func(*hookedStore){
		"list": func(s *hookedStore) {
			s.list = func(q keyring.Query) error {
				if q.CreatedBy != "" {
					return errAway
				}
				return nil
			}
		},
		"events": func(s *hookedStore) { s.events = func(keyring.EventQuery) error { return errAway } },
	} {
		t.Run(name, func(t *testing.T) {
			s, store := hooked(t)
			r := s.create(keyring.Spec{})
			break_(store)
			s.get("keys/" + r.ID).is(200)
			s.get("keys/"+r.ID+"/revoke").is(200).has("Only this key", "Not all of them could be found")
			s.post("keys/"+r.ID+"/revoke", nil).is(422)
			s.post("keys/"+r.ID+"/revoke", url.Values{"also": {"made"}}).is(503).has("1 key has been revoked", "Not all keys could be revoked")
			equal(t, "revoked", s.record(r.ID).RevokedAt.IsZero(), false)
			other := s.create(keyring.Spec{})
			s.post("keys/"+other.ID+"/revoke", url.Values{"also": {"only"}}).goes()
		})
	}
}

// A key that ended can still be searched for what it made.
func TestRevokeMadeLater(t *testing.T) {
	s := newSite(t)
	leaked := s.create(keyring.Spec{Scopes: auth.Scopes{"*"}})
	child, _, err := s.manager.For(keyring.ActorOf(leaked)).Create(ctx, keyring.Spec{Name: "Child"})
	must(t, err)
	path := "keys/" + leaked.ID + "/revoke"
	s.post(path, url.Values{"also": {"only"}}).goes()
	s.get("keys/" + leaked.ID).is(200).has("Revoke the keys that it made")
	s.get(path).is(200).has("Child", "You can still revoke the keys that it made").hasNot("Only this key")
	must(t, s.manager.For(ada.Actor).Delete(ctx, leaked.ID))
	s.get("keys/" + leaked.ID).is(200).has("The key has been deleted")
	s.get(path).is(200).has("Child")
	s.post(path, url.Values{"also": {"made"}}).goes()
	equal(t, "the child", s.record(child.ID).RevokedAt.IsZero(), false)
	s.get(path).is(200).has("It made no keys that are still good.")
}

// One key that cannot be written does not spare the others.
func TestBulkGoesOn(t *testing.T) {
	s, store := hooked(t)
	bad := ""
	for range 10 {
		bad = s.create(keyring.Spec{}).ID
	}
	store.update = func(r *auth.Record) error {
		if r.ID == bad {
			return errAway
		}
		return nil
	}
	form := url.Values{"all": {"yes"}, "status": {"current"}}
	page := s.post("keys/revoke", form).is(200)
	form["confirmed"], form["set"] = []string{"10"}, []string{page.field("set")}
	s.post("keys/revoke", form).is(503).has("9 keys have been revoked", "1 key could not be revoked")
}

// Somebody narrows a key while a form of it is answered that says the revision
// before or the one after: nothing is widened or lengthened without being asked
// for.
func TestConfirmOfAnotherRevision(t *testing.T) {
	for _, revision := range []string{"1", "2"} {
		s, store := hooked(t, func(o *dashboard.Options, _ *keyring.Options) {
			o.Confirm = func(*http.Request, dashboard.Viewer, dashboard.Action) string { return "https://login.example" }
		})
		r := s.create(keyring.Spec{Scopes: auth.Scopes{"*"}})
		gets := 0
		store.get = func(string) error {
			if gets++; gets == 2 { // between the first read and the change, or what is read for the answer
				narrow := s.record(r.ID)
				narrow.Scopes, narrow.ExpiresAt, narrow.Revision = auth.Scopes{"documents.read"}, time.Now().Add(time.Hour), 2
				must(t, s.store.Update(ctx, &narrow, nil))
			}
			return nil
		}
		form := url.Values{"name": {"Backend"}, "scope": {"*"}, "expires": {"keep"}, "revision": {revision}}
		equal(t, "status of a form of revision "+revision, s.post("keys/"+r.ID+"/edit", form).status, 409)
		now := s.record(r.ID)
		equal(t, "revision", now.Revision, 2)
		equal(t, "scopes", fmt.Sprint(now.Scopes), "[documents.read]")
		equal(t, "it never expires", now.ExpiresAt.IsZero(), false)
	}
}

// Each page that shows staff a customer's key tells the host.
func TestStaffReads(t *testing.T) {
	var reads []string
	s := newSite(t, func(o *dashboard.Options, _ *keyring.Options) {
		o.StaffSecrets = true
		o.OnStaffRead = func(_ context.Context, _, owner, keyID, _ string) { reads = append(reads, owner+" "+keyID) }
	}).as(sam)
	r := s.create(keyring.Spec{Owner: "globex"})
	for _, look := range []func(){
		func() { s.post("keys/revoke", url.Values{"id": {r.ID}, "owner": {"decoy"}}).is(200) },
		func() { s.get("keys/" + r.ID + "/used").is(200) },
		func() { s.get("keys/" + r.ID + "/revoke").is(200) },
		func() { s.get("keys/new?like=" + r.ID).is(200) },
		func() { s.post("keys/"+r.ID+"/rotate", url.Values{"grace": {"now"}}).is(200) },
		func() { s.get("keys/" + r.ID + "/rotate").is(409) },
	} {
		reads = nil
		look()
		if len(reads) == 0 || reads[0] != "globex "+r.ID {
			t.Errorf("the host is told %q, want globex and the key", reads)
		}
	}
	form := url.Values{"name": {"Twice"}, "scope": {"documents.read"}, "expires": {"never"}, "once": {"x"}, "owner": {"globex"}}
	s.post("keys/new", form).is(200)
	reads = nil
	s.post("keys/new", form).is(409)
	equal(t, "reads of a repeated form", len(reads), 1)
}

// A key that a colleague rotated is not replaced.
func TestReplaceOfOthers(t *testing.T) {
	s := newSite(t)
	r := s.create(keyring.Spec{})
	s.as(dashboard.Viewer{Actor: keyring.Actor{Name: "colleague", Owner: "acme", Scopes: auth.Scopes{"*"}}})
	s.post("keys/"+r.ID+"/rotate", url.Values{"grace": {"7d"}}).is(200)
	s.as(ada)
	next := s.record(r.ID).RotatedTo
	s.get("keys/"+r.ID+"/rotate").is(409).hasNot("Replace the key", "sent more than once")
	s.post("keys/"+r.ID+"/rotate", url.Values{"grace": {"now"}}).is(409).hasNot("Replace the key")
	s.post("keys/"+next+"/replace", nil).is(409)
	equal(t, "revision of the successor", s.record(next).Revision, 1)
}

// The logs are down. A repeated form says what is there.
func TestExistsWithoutLogs(t *testing.T) {
	logs := newFailingLog(0)
	s := newSite(t, func(o *dashboard.Options, _ *keyring.Options) { o.Logs = logs })
	form := url.Values{"name": {"Twice"}, "scope": {"documents.read"}, "expires": {"never"}, "once": {"x"}}
	s.post("keys/new", form).is(200)
	s.post("keys/new", form).is(409).has("This key already exists", "Twice", "rotate it").hasNot("Replace the key")
}

// A part of a download says that it is one, also to a client of HTTP/1.0.
func TestIncompleteDownload(t *testing.T) {
	logs := newFailingLog(2)
	s := newSite(t, func(o *dashboard.Options, _ *keyring.Options) { o.Logs = logs })
	s.logs = logs.MemoryStore
	r := s.create(keyring.Spec{})
	for i := range 2500 {
		s.log(r, time.Duration(i)*time.Second)
	}
	w := httptest.NewRecorder()
	func() {
		defer func() { recover() }()
		s.ServeHTTP(w, httptest.NewRequest("GET", prefix+"logs.csv", nil))
	}()
	text := strings.TrimSpace(w.Body.String())
	if !strings.HasSuffix(text, "\nINCOMPLETE: the download broke off here") {
		t.Errorf("the download ends with %q", text[max(0, len(text)-200):])
	}
	equal(t, "lines", strings.Count(text, "\n"), 2001)
}

// Customers do not find out which member of the staff acted.
func TestSupport(t *testing.T) {
	s := newSite(t)
	r := s.create(keyring.Spec{})
	must(t, s.manager.Unconfined("sam").Disable(ctx, r.ID))
	s.get("activity?by=Support").is(200).has("Disabled Support")
	for _, by := range []string{"staff:sam", "staff:other", "sam", "sql:postgres"} {
		s.get("activity?by=" + by).is(200).has("No change matches").hasNot("staff:setup")
	}
	s.as(sam).get("activity?by=staff:sam").is(200).has("Disabled staff:sam")
}

// A key that another one made names it.
func TestByKey(t *testing.T) {
	s := newSite(t)
	parent := s.create(keyring.Spec{Name: "CI runner", Scopes: auth.Scopes{"*"}})
	child, _, err := s.manager.For(keyring.ActorOf(parent)).Create(ctx, keyring.Spec{Name: "Child"})
	must(t, err)
	s.get("activity").is(200).has("Created CI runner " + parent.Hint)
	s.get("keys/" + child.ID).is(200).has("by CI runner (" + parent.Hint + ")")
}

func TestOddScopes(t *testing.T) {
	s := newSite(t, func(_ *dashboard.Options, k *keyring.Options) {
		k.Scheme.Catalog = auth.Catalog{{Scope: "documents.*"}, {Scope: "documents.all"}, {Scope: "documents-all.x"}, {Scope: "*"}, {Scope: "documents.read"}}
	})
	page := s.get("keys/new").is(200)
	for i := range 5 {
		equal(t, "checkboxes with one ID", strings.Count(page.body, fmt.Sprintf(`id="scope-%d"`, i)), 1)
	}
	if strings.Index(page.body, `value="*"`) > strings.Index(page.body, `value="documents.*"`) {
		t.Error("the widest wildcard is not first")
	}
	s.post("keys/new", url.Values{"name": {"x"}, "scope": {"documents.read", "documents.read"}, "expires": {"never"}}).is(200)
	equal(t, "scopes", len(s.keys()[0].Scopes), 1)
	var many []string
	for i := range 6000 {
		many = append(many, fmt.Sprint("a.", i))
	}
	if page := s.post("keys/new", url.Values{"name": {"x"}, "scope": many, "expires": {"never"}}); page.status < 400 || len(page.body) > 200_000 {
		t.Errorf("6,000 scopes are answered with %d and %d bytes", page.status, len(page.body))
	}
}

func TestAddresses(t *testing.T) {
	s := newSite(t)
	r := s.create(keyring.Spec{Name: " Backend "})
	for _, path := range []string{"logs?status=%zz", "?owner=a;b", "activity?after=x"} {
		s.get(path).is(400)
	}
	s.post("nowhere", url.Values{"as": {"x"}}).is(404)
	s.get("keys/" + r.ID + "?notice=revoked").is(200).hasNot("has been revoked")
	form := url.Values{"name": {"Backend"}, "scope": {"documents.read"}, "expires": {"keep"}, "revision": {"1"}}
	equal(t, "a name with blanks around it", s.post("keys/"+r.ID+"/edit", form).goes(), "keys/"+r.ID+"?notice=unchanged")
	form["scope"] = nil
	s.post("keys/"+r.ID+"/edit", form).is(422).has("Choose at least one scope.")
	encoded := httptest.NewRequest("GET", "/%64evelopers/keys/new", nil)
	s.send(encoded).is(200).hasBody(`action="../keys/new"`)
	head := httptest.NewRequest("HEAD", prefix+"logs.csv", nil)
	equal(t, "body of HEAD", s.send(head).is(200).body, "")
}

// A Layout that fails or flushes does not change what is answered.
func TestLayoutFails(t *testing.T) {
	layouts := map[string]func(w http.ResponseWriter, p dashboard.Page) error{
		"at once":      func(http.ResponseWriter, dashboard.Page) error { return errAway },
		"in between":   func(w http.ResponseWriter, p dashboard.Page) error { io.WriteString(w, "part"); return errAway },
		"flushes":      func(w http.ResponseWriter, p dashboard.Page) error { return http.NewResponseController(w).Flush() },
		"does nothing": func(http.ResponseWriter, dashboard.Page) error { return nil },
	}
	for name, want := range map[string]struct {
		status int
		body   string
	}{"at once": {500, "Internal Server Error\n"}, "in between": {404, "part"}, "flushes": {404, ""}, "does nothing": {404, ""}} {
		s := newSite(t, func(o *dashboard.Options, _ *keyring.Options) {
			o.Layout = func(w http.ResponseWriter, r *http.Request, p dashboard.Page) error { return layouts[name](w, p) }
		})
		a := s.get("keys/unknown")
		equal(t, name+": status", a.status, want.status)
		equal(t, name+": body", a.body, want.body)
	}
}

// Somebody renames a key between the read and the change of a form. The form does
// not overwrite that.
func TestStaleInBetween(t *testing.T) {
	s, store := hooked(t)
	r := s.create(keyring.Spec{})
	gets := 0
	store.get = func(string) error {
		if gets++; gets == 2 {
			renamed := s.record(r.ID)
			renamed.Name, renamed.Revision = "Theirs", 2
			must(t, s.store.Update(ctx, &renamed, nil))
		}
		return nil
	}
	form := url.Values{"name": {"Mine"}, "scope": {"documents.read"}, "expires": {"keep"}, "revision": {"1"}}
	s.post("keys/"+r.ID+"/edit", form).is(409).has("Theirs")
	equal(t, "name", s.record(r.ID).Name, "Theirs")
}
