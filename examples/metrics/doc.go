// Package metrics has adapters for Prometheus and OpenTelemetry.
package metrics
