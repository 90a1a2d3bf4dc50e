// Package keyapi tests the OpenAPI document of package keyapi with tools of
// other projects: a validator, and generators of clients. Nothing imports it.
package keyapi
