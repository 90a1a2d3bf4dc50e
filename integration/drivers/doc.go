// Package drivers tests the stores of module sqlstore together with drivers of
// other projects, and through drivers that wrap that of pgx. Nothing imports it.
package drivers
