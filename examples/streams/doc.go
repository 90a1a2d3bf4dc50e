// Package streams shows how a stream ends when its key is revoked: server-sent
// events, a WebSocket and a gRPC stream.
package streams
