package streams

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/insigner/auth"
)

// events streams server-sent events until the client leaves or its key ends.
func events(every time.Duration, source <-chan string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := auth.WithRecheck(r.Context(), every)
		defer cancel()
		w.Header().Set("Content-Type", "text/event-stream")
		control := http.NewResponseController(w)
		control.Flush()
		for {
			select {
			case event := <-source:
				fmt.Fprintf(w, "data: %s\n\n", event)
			case <-ctx.Done():
				if code := auth.Code(context.Cause(ctx)); code != "" {
					fmt.Fprintf(w, "event: end\ndata: %s\n\n", code)
				}
				return
			}
			control.Flush()
		}
	}
}
