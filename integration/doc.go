// Package integration has tests and benchmarks that need several modules.
// Nothing imports it.
package integration
