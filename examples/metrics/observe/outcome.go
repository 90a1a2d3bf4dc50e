package observe

import (
	"context"
	"slices"

	"github.com/insigner/auth"
)

// An Outcome is what of a decision becomes labels. There are few of them, and
// none is made by a client.
type Outcome struct {
	Step string // of auth.Step, or "other"
	Code string // one of Codes
}

// Codes are the codes of the decisions of package auth, and
//
//   - OK: the key passed,
//   - CLIENT_GONE: the client went away during the lookup; to package auth this
//     is STORE_UNAVAILABLE, but it is no outage,
//   - INTERNAL_ERROR: a programmer's mistake, answered with 500,
//   - OTHER: any other code.
var Codes = []string{"OK", "MISSING_KEY", "INVALID_FORMAT", "INVALID_KEY", "KEY_REVOKED", "KEY_DISABLED", "KEY_EXPIRED",
	"INSUFFICIENT_SCOPE", "STORE_UNAVAILABLE", "CLIENT_GONE", "INTERNAL_ERROR", "OTHER"}

var steps = []auth.Step{auth.StepAuthenticate, auth.StepAuthorize, auth.StepRecheck}

// Outcomes returns each Outcome that a decision of package auth can have, so
// that its series can be there from the start, at zero. Otherwise the first
// refusal of a kind would be no increase.
func Outcomes() (list []Outcome) {
	for _, step := range steps {
		for _, code := range Codes {
			list = append(list, Outcome{string(step), code})
		}
	}
	return list
}

// OutcomeOf returns the Outcome of a decision. Ctx is the context that
// OnDecision gets.
func OutcomeOf(ctx context.Context, d auth.Decision) Outcome {
	o := Outcome{"other", "OTHER"}
	if slices.Contains(steps, d.Step) {
		o.Step = string(d.Step)
	}
	switch {
	case d.Err == nil:
		o.Code = "OK"
	case d.Code == "":
		o.Code = "INTERNAL_ERROR"
	case d.Code == "STORE_UNAVAILABLE" && ctx.Err() == context.Canceled:
		o.Code = "CLIENT_GONE"
	case slices.Contains(Codes, d.Code):
		o.Code = d.Code
	}
	return o
}

// The buckets of histograms, in seconds. Those of lookups that requests wait
// for reach from an answer out of memory to the QueueTimeout and LookupTimeout
// of a cache together, 6 seconds unless set. Those of lookups in the store are
// for a database.
var (
	LookupBuckets = append([]float64{1e-6, 1e-5, 1e-4}, StoreBuckets...)
	StoreBuckets  = []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
)
