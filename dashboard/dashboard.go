package dashboard

import (
	"context"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/keyring"
)

// Options configures the pages. Manager and Viewer are needed.
type Options struct {
	// Manager makes the Keyring of each viewer. Its Scheme has a Catalog: the
	// scopes to choose from.
	Manager *keyring.Manager

	// Viewer returns who is signed in, by the host's own session. If nobody is,
	// it answers the request, for example with a redirect to the sign-in page,
	// and returns false. It must not trust anything that the client can choose.
	Viewer func(w http.ResponseWriter, r *http.Request) (Viewer, bool)

	// Confirm, if not nil, is called before an action by which a stolen session
	// could outlive itself. If it returns a URL, the action is refused until the
	// viewer has signed in there again: the page links to it, and keeps what was
	// typed. If it returns "", the action is permitted.
	Confirm func(r *http.Request, v Viewer, a Action) (signInURL string)

	// Logs are the API logs. If nil, there is no page "API Logs".
	Logs apilog.Store

	// LogsRetention is apilog.Options.Retention: the page says how long entries
	// are kept. If 0, it is 30 days. If negative, the page does not say it.
	LogsRetention time.Duration

	// RateLimit, if not nil, returns the limit of a key and its use now, for the
	// page of the key. It counts no request. If it returns an error, the page says
	// that the limit is not known.
	RateLimit func(ctx context.Context, r auth.Record) (RateLimit, error)

	// Prefix is the path under which the handler is mounted, such as
	// "/developers/". It begins and ends with "/". If empty, it is "/". Links and
	// forms are relative, so a proxy may add a path before it.
	Prefix string

	// Origins are trusted origins of forms, such as "https://www.example.com", if
	// the host is reached under other names than the Host of the request.
	Origins []string

	// Layout, if not nil, writes the host's own frame around a page. It must not
	// call WriteHeader. If it returns an error before it has written anything, the
	// answer is 500.
	Layout func(w http.ResponseWriter, r *http.Request, p Page) error

	// Text, if not nil, translates a text. It returns the text itself if it has
	// no translation. [Texts] lists them. A text with verbs of package fmt keeps
	// them. The text "en" is the language of the pages.
	Text func(r *http.Request, english string) string

	// OnStaffRead, if not nil, is called before staff are shown data of customers:
	// by is the name of the viewer, page the path of the page without Prefix. An
	// empty owner or keyID means all of them.
	OnStaffRead func(ctx context.Context, by, owner, keyID, page string)

	// StaffSecrets is whether staff may create, edit, enable and rotate keys. If
	// false, they look, disable and revoke.
	StaffSecrets bool

	// Title is the name of the pages. If empty, it is "Developers".
	Title string

	// APIBase is the URL of the key API, such as
	// "https://api.example.com/api/v1/keys". A new key is shown with a curl line
	// for APIBase + "/self". If empty, there is no such line.
	APIBase string

	// Logger gets failures of the stores. If nil, it is slog.Default() at the
	// time of the call.
	Logger *slog.Logger
}

// A Viewer is who is signed in.
type Viewer struct {
	// Actor is in whose name the pages act. For staff, only the Name counts.
	keyring.Actor

	// Staff see every owner's keys, through Manager.Unconfined.
	Staff bool

	// ReadOnly viewers change nothing.
	ReadOnly bool
}

// A Page is what Options.Layout puts a frame around.
type Page struct {
	Title string        // for the element title
	Lang  string        // for the attribute lang of the element html
	Head  template.HTML // for the element head: the style sheet and the script
	Main  template.HTML // for the element body: navigation and content
	Nonce string        // for scripts and styles of the frame: the policy permits no others
}

// An Action is what Options.Confirm is asked about.
type Action string

// The actions by which a stolen session could outlive itself.
const (
	ActionCreate Action = "create" // a new key
	ActionRotate Action = "rotate" // a new key in place of another
	ActionEnable Action = "enable" // a disabled key
	ActionWiden  Action = "widen"  // a scope that the key did not have
	ActionExtend Action = "extend" // a later expiry
)

// New returns the handler of the pages. It panics without a Manager, a Catalog in
// its Scheme, or a Viewer, and on options that cannot work.
func New(opts Options) http.Handler {
	h := &handler{Options: opts, slots: slots{taken: make(map[string]int)}}
	if opts.Manager == nil {
		panic("dashboard.New: Options.Manager is nil")
	}
	h.keyOptions = opts.Manager.Options()
	if len(h.keyOptions.Scheme.Catalog) == 0 {
		panic("dashboard.New: the Scheme of Options.Manager has no Catalog")
	}
	if opts.Viewer == nil {
		panic("dashboard.New: Options.Viewer is nil")
	}
	if h.Prefix == "" {
		h.Prefix = "/"
	}
	escaped := (&url.URL{Path: h.Prefix}).EscapedPath()
	if !strings.HasPrefix(h.Prefix, "/") || !strings.HasSuffix(h.Prefix, "/") || escaped != h.Prefix {
		panic(fmt.Sprintf("dashboard.New: Options.Prefix %q is not a path that begins and ends with / and needs no escapes", opts.Prefix))
	}
	for _, origin := range opts.Origins {
		if err := h.crossOrigin.AddTrustedOrigin(origin); err != nil {
			panic(fmt.Sprintf("dashboard.New: Options.Origins: %v", err))
		}
	}
	if h.Title == "" {
		h.Title = "Developers"
	}
	if h.LogsRetention == 0 {
		h.LogsRetention = 30 * 24 * time.Hour
	}
	h.APIBase = strings.TrimSuffix(h.APIBase, "/")
	h.routes()
	return h
}

// A handler serves the pages.
type handler struct {
	Options
	keyOptions  keyring.Options
	crossOrigin http.CrossOriginProtection
	mux         http.ServeMux
	slots       slots
}

func (h *handler) log() *slog.Logger {
	if h.Logger != nil {
		return h.Logger
	}
	return slog.Default()
}
