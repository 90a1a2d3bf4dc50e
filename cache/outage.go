package cache

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/insigner/auth"
)

// outageInterval is how often failures are logged at most while they continue.
const outageInterval = time.Minute

// An outage logs when lookups begin to fail, once a minute while they do, and
// when the store answers again.
//
// A store may fail for some lookups and answer others, for example if one row
// is broken. So if failures begin again within a minute of the last outage, the
// new outage ends only after a minute without a failure.
type outage struct {
	opts *Options

	mu       sync.Mutex // not held while a line is written
	failing  bool
	failures int           // since the last line
	newest   time.Time     // of the failures
	logged   time.Time     // the last line about failures
	ended    time.Time     // the outage before
	calm     time.Duration // how long no lookup may have failed when the outage ends
}

// failed counts a failure, and logs it if a line is due.
func (o *outage) failed(hash auth.Hash, err error) {
	if n := o.count(time.Now()); n > 0 {
		o.opts.log().Error("auth/cache: lookups in the store fail", "failures", n, "error", redact(err.Error(), hash))
	}
}

// count returns the number of failures since the last line if a line is due,
// otherwise 0.
func (o *outage) count(now time.Time) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failures++
	o.newest = now
	switch {
	case !o.failing:
		o.failing, o.calm = true, 0
		if now.Sub(o.ended) < outageInterval {
			o.calm = outageInterval
		}
	case now.Sub(o.logged) < outageInterval:
		return 0
	}
	o.logged = now
	n := o.failures
	o.failures = 0
	return n
}

// answered logs the end of an outage.
func (o *outage) answered() {
	if n, ended := o.end(time.Now()); ended {
		o.opts.log().Info("auth/cache: the store answers again", "failures", n)
	}
}

// end reports whether the outage ends now, and the number of failures since the
// last line.
func (o *outage) end(now time.Time) (n int, ended bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.failing || now.Sub(o.newest) < o.calm {
		return 0, false
	}
	n = o.failures
	o.failing, o.failures, o.ended = false, 0, now
	return n, true
}

// A reported error is one that an outage counts. An Authenticator logs it only
// at level Debug, so that an outage is not one line per request.
type reported struct{ error }

func (r *reported) Unwrap() error { return r.error }

// Logged reports that the error has been logged.
func (*reported) Logged() bool { return true }

var hexHash = regexp.MustCompile(`[0-9A-Fa-f]{64,}`)

// redact returns text, the error of a lookup, without the hash, as package fmt,
// drivers, URLs and JSON spell it. It also strikes out what looks like another
// hash. A store is not given the key.
func redact(text string, hash auth.Hash) string {
	text = hexHash.ReplaceAllString(text, "[hash]")
	b, raw := hash[:], string(hash[:])
	inJSON, _ := json.Marshal(raw)
	inside := func(s string) string { return s[1 : len(s)-1] }
	decimal := inside(fmt.Sprint(b))
	for _, spelling := range []string{
		raw,
		inside(strconv.Quote(raw)),
		inside(strconv.QuoteToASCII(raw)),
		inside(string(inJSON)),
		url.QueryEscape(raw),
		url.PathEscape(raw),
		base64.RawStdEncoding.EncodeToString(b),
		base64.RawURLEncoding.EncodeToString(b),
		fmt.Sprintf("% x", b),
		fmt.Sprintf("% X", b),
		decimal,
		strings.ReplaceAll(decimal, " ", ","),
		strings.ReplaceAll(decimal, " ", ", "),
		inside(strings.TrimPrefix(fmt.Sprintf("%#v", b), "[]byte")),
	} {
		text = strings.ReplaceAll(text, spelling, "[hash]")
	}
	return text
}
