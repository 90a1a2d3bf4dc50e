// Package fanout carries the changes of keys from a few processes to a
// thousand.
package fanout
