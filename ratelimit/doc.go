// Package ratelimit limits the requests of each API key.
package ratelimit
