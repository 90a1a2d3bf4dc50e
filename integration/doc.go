// Package integration has the benchmarks that need several modules at once; faults, below it, has the tests. It has
// nothing to import.
package integration
