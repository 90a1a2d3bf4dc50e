// Package integration holds the tests and benchmarks that need several modules at once: auth, cache and sqlstore, on
// real servers. It is not for use.
package integration
