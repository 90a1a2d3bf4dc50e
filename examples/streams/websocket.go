package streams

import (
	"context"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/insigner/auth"
)

// echo sends back what it receives on a WebSocket, until the client leaves or
// its key ends.
func echo(every time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return // Accept has answered
		}
		defer conn.CloseNow()
		ctx, cancel := auth.WithRecheck(r.Context(), every)
		defer cancel()
		// A context that ends during Read closes the connection without a word.
		// So Read gets another context, and the key's end closes with a reason.
		stop := context.AfterFunc(ctx, func() {
			if code := auth.Code(context.Cause(ctx)); code != "" {
				conn.Close(websocket.StatusPolicyViolation, code)
				return
			}
			conn.CloseNow()
		})
		defer stop()
		for {
			kind, message, err := conn.Read(context.WithoutCancel(ctx))
			if err == nil {
				err = conn.Write(ctx, kind, message)
			}
			if err != nil {
				return
			}
		}
	}
}
