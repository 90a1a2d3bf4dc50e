package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// The model has the rules of DESIGN in the plainest form: a list of keys, and for
// each call the errors that it may return. It knows nothing of revisions, pages
// or stores.

const (
	modelMaxKeys     = 2
	modelMaxLifetime = 100 * time.Hour
)

// modelScopes are the scopes that calls choose from.
var modelScopes = []auth.Scope{"*", "a.*", "a.b", "a.b.c", "d", "d:*", "d:e"}

// modelCovers is Scope.Covers for modelScopes.
func modelCovers(held []auth.Scope, required auth.Scope) bool {
	for _, s := range held {
		stem, wild := strings.CutSuffix(string(s), "*")
		if s == required || s == "*" || wild && len(required) > len(stem) && strings.HasPrefix(string(required), stem) {
			return true
		}
	}
	return false
}

func modelCoversAll(held, required []auth.Scope) bool {
	for _, s := range required {
		if !modelCovers(held, s) {
			return false
		}
	}
	return true
}

// A modelKey is what the model knows about a key.
type modelKey struct {
	id, owner, name       string
	key                   auth.Key
	scopes                []auth.Scope
	created, expires      time.Time // expires is zero for never
	revoked, disabled     bool
	rotatedTo, once, from string
}

func (k *modelKey) expired(now time.Time) bool { return !k.expires.IsZero() && !k.expires.After(now) }

// A modelActor is somebody who calls.
type modelActor struct {
	actor keyring.Actor
	staff bool
	keys  *keyring.Keyring
}

func (a *modelActor) covers(scopes []auth.Scope) bool {
	return a.staff || modelCoversAll(a.actor.Scopes, scopes)
}

// limit returns the latest expiry that the actor may set, or zero.
func (a *modelActor) limit(now time.Time) time.Time {
	if a.staff {
		return time.Time{}
	}
	limit := now.Add(modelMaxLifetime)
	if e := a.actor.ExpiresAt; !e.IsZero() && e.Before(limit) {
		limit = e
	}
	return limit
}

// A model is the keys of all owners.
type model struct {
	t      *testing.T
	ctx    context.Context
	keys   []*modelKey
	actors []*modelActor
	step   string
}

func newModel(t *testing.T) *model {
	m := &model{t: t, ctx: context.Background()}
	manager := keyring.NewManager(new(keyring.MemoryStore), &keyring.Options{
		MaxKeys:     modelMaxKeys,
		MaxLifetime: modelMaxLifetime,
	})
	for _, a := range []keyring.Actor{
		{Name: "all", Owner: "o1", Scopes: auth.Scopes{"*"}},
		{Name: "some", Owner: "o1", Scopes: auth.Scopes{"a.*", "d"}},
		{Name: "none", Owner: "o1"},
		{Name: "empty", Owner: "o1", Scopes: auth.Scopes{}},
		{Name: "expiring", Owner: "o1", Scopes: auth.Scopes{"*"}, ExpiresAt: time.Now().Add(30 * time.Hour)},
		{Name: "other", Owner: "o2", Scopes: auth.Scopes{"*"}},
		{Name: "some other", Owner: "o2", Scopes: auth.Scopes{"a.b"}},
		{Name: "nobody's", Scopes: auth.Scopes{"*"}},
	} {
		m.actors = append(m.actors, &modelActor{actor: a, keys: manager.For(a)})
	}
	m.actors = append(m.actors, &modelActor{staff: true, keys: manager.Unconfined("staff")})
	return m
}

// check compares the outcome of a call with what is permitted: no error if may is
// empty, else one of may.
func (m *model) check(err error, may ...error) {
	m.t.Helper()
	switch {
	case len(may) == 0 && err != nil:
		m.t.Fatalf("%s: got error %v, want none", m.step, err)
	case len(may) > 0 && !slices.ContainsFunc(may, func(e error) bool { return errors.Is(err, e) }):
		m.t.Fatalf("%s: got error %v, want one of %v", m.step, err, may)
	}
}

// mayAct returns the error of an actor who can do nothing.
func (m *model) mayAct(a *modelActor) []error {
	if a.staff {
		return nil
	}
	if a.actor.Owner == "" || !a.actor.ExpiresAt.IsZero() && !a.actor.ExpiresAt.After(time.Now()) {
		return []error{keyring.ErrInvalidArgument}
	}
	return nil
}

// sees reports whether the key exists for the actor. K may be nil.
func (m *model) sees(a *modelActor, k *modelKey) bool {
	return k != nil && (a.staff || a.actor.Owner == k.owner)
}

// same compares a record with the model.
func (m *model) same(r auth.Record, k *modelKey) {
	m.t.Helper()
	for _, f := range []struct {
		field     string
		got, want any
	}{
		{"ID", r.ID, k.id},
		{"Owner", r.Owner, k.owner},
		{"Name", r.Name, k.name},
		{"Scopes", fmt.Sprint([]auth.Scope(r.Scopes)), fmt.Sprint(k.scopes)},
		{"CreatedAt", r.CreatedAt.UnixMicro(), k.created.UnixMicro()},
		{"ExpiresAt", r.ExpiresAt.UnixMicro(), k.expires.UnixMicro()},
		{"revoked", !r.RevokedAt.IsZero(), k.revoked},
		{"disabled", !r.DisabledAt.IsZero(), k.disabled},
		{"RotatedTo", r.RotatedTo, k.rotatedTo},
		{"RotatedFrom", r.RotatedFrom, k.from},
	} {
		if f.got != f.want {
			m.t.Fatalf("%s: %s is %v, want %v", m.step, f.field, f.got, f.want)
		}
	}
}

// live returns how many keys of the owner count for MaxKeys.
func (m *model) live(owner string) (n int) {
	for _, k := range m.keys {
		if k.owner == owner && !k.revoked && !k.expired(time.Now()) {
			n++
		}
	}
	return n
}

func (m *model) create(a *modelActor, spec keyring.Spec) {
	now := time.Now()
	r, key, err := a.keys.Create(m.ctx, spec)
	if may := m.mayAct(a); may != nil {
		m.check(err, may...)
		return
	}
	owner := spec.Owner
	var may []error
	if !a.staff {
		if owner != "" && owner != a.actor.Owner {
			may = append(may, keyring.ErrInvalidArgument)
		}
		owner = a.actor.Owner
	}
	expires := spec.ExpiresAt
	if !expires.IsZero() && !expires.After(now) {
		may = append(may, keyring.ErrInvalidArgument)
	}
	if limit := a.limit(now); !limit.IsZero() {
		if expires.After(limit) {
			may = append(may, keyring.ErrInvalidArgument)
		}
		if expires.IsZero() {
			expires = limit
		}
	}
	if !a.covers(spec.Scopes) {
		may = append(may, auth.ErrInsufficientScope)
	}
	if len(may) == 0 {
		if first := m.byOnce(owner, spec.Once); first != nil {
			may = append(may, keyring.ErrExists) // before ErrTooManyKeys
		} else if !a.staff && m.live(owner) >= modelMaxKeys {
			may = append(may, keyring.ErrTooManyKeys)
		}
	}
	m.check(err, may...)
	if exists, ok := errors.AsType[*keyring.ExistsError](err); ok {
		m.same(exists.Record, m.byOnce(owner, spec.Once))
	}
	if err != nil {
		if r.ID != "" {
			m.t.Fatalf("%s: a record with an error", m.step)
		}
		if key.Reveal() != "" {
			m.t.Fatalf("%s: a key with an error", m.step)
		}
		return
	}
	k := &modelKey{id: r.ID, owner: owner, name: spec.Name, key: key, scopes: slices.Clone(spec.Scopes),
		created: now, expires: expires, once: spec.Once}
	m.keys = append(m.keys, k)
	m.same(r, k)
}

func (m *model) byOnce(owner, once string) *modelKey {
	for _, k := range m.keys {
		if once != "" && k.once == once && k.owner == owner {
			return k
		}
	}
	return nil
}

func (m *model) rotate(a *modelActor, k *modelKey, id string, grace time.Duration) {
	now := time.Now()
	r, key, err := a.keys.Rotate(m.ctx, id, grace)
	may := m.mayAct(a)
	if grace < 0 || grace > keyring.MaxGrace {
		may = append(may, keyring.ErrInvalidArgument)
	}
	if may == nil { // in this order
		switch {
		case !m.sees(a, k):
			may = append(may, auth.ErrNotFound)
		case k.revoked:
			may = append(may, auth.ErrKeyRevoked)
		case k.rotatedTo != "":
			may = append(may, keyring.ErrRotated)
		case k.disabled:
			may = append(may, auth.ErrKeyDisabled)
		case k.expired(now):
			may = append(may, auth.ErrKeyExpired)
		case !a.covers(k.scopes):
			may = append(may, auth.ErrInsufficientScope)
		case !a.staff && grace > 0 && m.live(k.owner) >= 2*modelMaxKeys:
			may = append(may, keyring.ErrTooManyKeys)
		}
	}
	m.check(err, may...)
	if err != nil {
		if key.Reveal() != "" {
			m.t.Fatalf("%s: a key with an error", m.step)
		}
		return
	}
	next := &modelKey{id: r.ID, owner: k.owner, name: k.name, key: key, scopes: k.scopes, created: now, from: k.id}
	if !k.expires.IsZero() {
		next.expires = now.Add(k.expires.Sub(k.created))
	}
	if limit := a.limit(now); !limit.IsZero() && (next.expires.IsZero() || next.expires.After(limit)) {
		next.expires = limit
	}
	k.rotatedTo = next.id
	if end := now.Add(grace); k.expires.IsZero() || k.expires.After(end) {
		k.expires = end
	}
	m.keys = append(m.keys, next)
	m.same(r, next)
	m.get(a, k, k.id)
}

func (m *model) update(a *modelActor, k *modelKey, id string, change func(r *auth.Record)) {
	now := time.Now()
	r, err := a.keys.Update(m.ctx, id, func(r *auth.Record) error {
		change(r)
		return nil
	})
	may := m.mayAct(a)
	switch {
	case may != nil:
	case !m.sees(a, k):
		may = append(may, auth.ErrNotFound)
	case k.revoked:
		may = append(may, auth.ErrKeyRevoked)
	case k.expired(now):
		may = append(may, auth.ErrKeyExpired)
	}
	if may != nil {
		m.check(err, may...)
		return
	}
	asked := auth.Record{Name: k.name, Scopes: slices.Clone(k.scopes), ExpiresAt: k.expires}
	change(&asked)
	for _, s := range asked.Scopes {
		if !modelCovers(k.scopes, s) && !a.covers([]auth.Scope{s}) {
			may = append(may, auth.ErrInsufficientScope) // it widens the key
		}
	}
	expires := asked.ExpiresAt
	limit := a.limit(now)
	switch shorter := !expires.IsZero() && (k.expires.IsZero() || expires.Before(k.expires)); {
	case expires.Equal(k.expires):
	case !expires.IsZero() && !expires.After(now):
		may = append(may, keyring.ErrInvalidArgument)
	case shorter, limit.IsZero():
	case expires.IsZero():
		expires = limit
	case expires.After(limit):
		may = append(may, keyring.ErrInvalidArgument)
	}
	longer := !k.expires.IsZero() && (expires.IsZero() || expires.After(k.expires))
	if longer && !a.covers(asked.Scopes) {
		may = append(may, auth.ErrInsufficientScope)
	}
	if k.rotatedTo != "" && !k.expires.IsZero() && (asked.ExpiresAt.IsZero() || asked.ExpiresAt.After(k.expires)) {
		may = append(may, keyring.ErrRotated)
	}
	m.check(err, may...)
	if err == nil {
		k.name, k.scopes, k.expires = asked.Name, asked.Scopes, expires
		m.same(r, k)
	}
}

// set models Disable, Enable, Revoke and Delete.
func (m *model) set(a *modelActor, k *modelKey, id, call string) {
	var err error
	switch call {
	case "disable":
		err = a.keys.Disable(m.ctx, id)
	case "enable":
		err = a.keys.Enable(m.ctx, id)
	case "revoke":
		err = a.keys.Revoke(m.ctx, id)
	case "delete":
		err = a.keys.Delete(m.ctx, id)
	}
	may := m.mayAct(a)
	switch {
	case may != nil:
	case !m.sees(a, k):
		may = append(may, auth.ErrNotFound)
	case k.revoked && (call == "disable" || call == "enable"):
		may = append(may, auth.ErrKeyRevoked)
	case call == "enable" && k.disabled && !a.covers(k.scopes):
		may = append(may, auth.ErrInsufficientScope)
	}
	m.check(err, may...)
	if err != nil {
		return
	}
	switch call {
	case "disable":
		k.disabled = true
	case "enable":
		k.disabled = false
	case "revoke":
		k.revoked = true
	case "delete":
		m.keys = slices.DeleteFunc(m.keys, func(other *modelKey) bool { return other == k })
		return
	}
	m.get(a, k, id)
}

func (m *model) get(a *modelActor, k *modelKey, id string) {
	r, err := a.keys.Get(m.ctx, id)
	may := m.mayAct(a)
	if may == nil && !m.sees(a, k) {
		may = append(may, auth.ErrNotFound)
	}
	m.check(err, may...)
	if err == nil {
		m.same(r, k)
	}
}

func (m *model) find(a *modelActor, k *modelKey) {
	var key auth.Key
	if k != nil {
		key = k.key
	}
	r, err := a.keys.Find(m.ctx, key)
	may := m.mayAct(a)
	if may == nil && !m.sees(a, k) {
		may = append(may, auth.ErrNotFound)
	}
	m.check(err, may...)
	if err == nil {
		m.same(r, k)
	}
}

func (m *model) list(a *modelActor, f keyring.Filter) {
	var ids []string
	var failed error
	for r, err := range a.keys.List(m.ctx, f) {
		if failed = err; err != nil {
			break
		}
		ids = append(ids, r.ID)
	}
	may := m.mayAct(a)
	if !a.staff && f.Owner != "" && f.Owner != a.actor.Owner {
		may = append(may, keyring.ErrInvalidArgument)
	}
	m.check(failed, may...)
	if failed != nil {
		return
	}
	var want []string
	for _, k := range m.keys {
		state := keyring.Active
		switch {
		case k.revoked:
			state = keyring.Revoked
		case k.disabled:
			state = keyring.Disabled
		case k.expired(time.Now()):
			state = keyring.Expired
		}
		if m.sees(a, k) && (f.Owner == "" || f.Owner == k.owner) && (f.States == 0 || f.States&state != 0) {
			want = append(want, k.id)
		}
	}
	slices.Sort(ids)
	slices.Sort(want)
	if !slices.Equal(ids, want) {
		m.t.Fatalf("%s: got keys %v, want %v", m.step, ids, want)
	}
}

// events checks that an actor sees only events of its own owner.
func (m *model) events(a *modelActor, k *modelKey, id string) {
	var failed error
	seen := 0
	for e, err := range a.keys.Events(m.ctx, keyring.EventFilter{KeyID: id}) {
		if failed = err; err != nil {
			break
		}
		seen++
		if !a.staff && e.Owner != a.actor.Owner {
			m.t.Fatalf("%s: an event of %s", m.step, e.Owner)
		}
	}
	may := m.mayAct(a)
	if may == nil && k != nil && !m.sees(a, k) || id == "unknown" && may == nil {
		may = append(may, auth.ErrNotFound)
	}
	m.check(failed, may...)
	if failed == nil && seen == 0 {
		m.t.Fatalf("%s: no event, although the key was created", m.step)
	}
}

// A source gives choices from the bytes of a fuzz input. At its end it gives 0.
type source struct{ data []byte }

func (s *source) choose(n int) int {
	if len(s.data) == 0 {
		return 0
	}
	c := int(s.data[0]) % n
	s.data = s.data[1:]
	return c
}

func (s *source) scopes() (list auth.Scopes) {
	for range s.choose(3) {
		if scope := modelScopes[s.choose(len(modelScopes))]; !slices.Contains(list, scope) {
			list = append(list, scope)
		}
	}
	return list
}

func (s *source) expiry() time.Time {
	hours := []int{0, 1, 20, 90, 1000, -1}[s.choose(6)]
	if hours == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(hours) * time.Hour).UTC()
}

// run makes one step that s chooses, and describes it.
func (m *model) run(n int, s *source) {
	a := m.actors[s.choose(len(m.actors))]
	op := s.choose(16)
	var k *modelKey
	id := "unknown"
	if len(m.keys) > 0 {
		if i := s.choose(len(m.keys) + 1); i < len(m.keys) {
			k = m.keys[i]
			id = k.id
		}
	}
	m.step = "step " + strconv.Itoa(n) + ", actor " + a.actor.Name + ", operation " + strconv.Itoa(op)
	switch op {
	case 0, 1, 2:
		m.create(a, keyring.Spec{Name: "key", Owner: []string{"", "o1", "o2"}[s.choose(3)], Scopes: s.scopes(),
			ExpiresAt: s.expiry(), Once: []string{"", "", "x", "y"}[s.choose(4)]})
	case 3, 4:
		m.rotate(a, k, id, []time.Duration{0, time.Hour, 20 * time.Hour, keyring.MaxGrace, keyring.MaxGrace + 1, -1}[s.choose(6)])
	case 5:
		scopes := s.scopes()
		m.update(a, k, id, func(r *auth.Record) { r.Scopes = scopes })
	case 6:
		expires := s.expiry()
		m.update(a, k, id, func(r *auth.Record) { r.ExpiresAt = expires })
	case 7:
		scopes, expires := s.scopes(), s.expiry()
		m.update(a, k, id, func(r *auth.Record) { r.Name, r.Scopes, r.ExpiresAt = "renamed", scopes, expires })
	case 8:
		m.set(a, k, id, "disable")
	case 9:
		m.set(a, k, id, "enable")
	case 10:
		m.set(a, k, id, "revoke")
	case 11:
		m.set(a, k, id, "delete")
	case 12:
		m.find(a, k)
	case 13:
		m.list(a, keyring.Filter{Owner: []string{"", "o1", "o2"}[s.choose(3)], States: keyring.States(s.choose(16))})
	case 14:
		m.events(a, k, id)
	case 15:
		time.Sleep([]time.Duration{time.Minute, time.Hour, 10 * time.Hour, 60 * time.Hour}[s.choose(4)])
	}
}

// maxModelSteps bounds a sequence, and so the number of keys.
const maxModelSteps = 200

// FuzzActors runs sequences of calls by several actors, on a clock that the
// sequence moves, and compares each outcome with the model.
func FuzzActors(f *testing.F) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		data := make([]byte, 400)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) {
			m, s := newModel(t), &source{data}
			for n := 0; n < maxModelSteps && len(s.data) > 0; n++ {
				m.run(n, s)
			}
		})
	})
}

// TestActorsAtRandom runs random sequences against the model: 100,000 steps, or
// as many as AUTH_TEST_STEPS says.
func TestActorsAtRandom(t *testing.T) {
	steps := 100_000
	if text := os.Getenv("AUTH_TEST_STEPS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		steps = n
	}
	for seed := uint64(0); steps > 0; seed++ {
		random := rand.New(rand.NewPCG(seed, 2))
		data := make([]byte, 1500)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		synctest.Test(t, func(t *testing.T) {
			m, s := newModel(t), &source{data}
			for n := 0; n < maxModelSteps && len(s.data) > 0 && steps > 0; n++ {
				m.run(n, s)
				steps--
			}
		})
		if t.Failed() {
			t.Fatalf("the seed is %d", seed)
		}
	}
}
