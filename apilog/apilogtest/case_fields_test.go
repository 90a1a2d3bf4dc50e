package apilogtest_test

import (
	"net/netip"
	"strings"
	"time"

	"github.com/insigner/auth/apilog"
)

var fieldFaults = []fault{
	{"the route is lost", "Each field", false, showing(func(e *apilog.Entry) { e.Route = "" })},
	{"the duration is lost", "Each field", false, showing(func(e *apilog.Entry) { e.Duration = 0 })},
	{"an unknown address is 0.0.0.0", "Each field", false, showing(func(e *apilog.Entry) {
		if !e.RemoteAddr.IsValid() {
			e.RemoteAddr = netip.IPv4Unspecified()
		}
	})},
	{"the code of a 403 is lost", "Each field", true, showing(func(e *apilog.Entry) {
		if e.Status == 403 {
			e.Code = ""
		}
	})},
	{"a text has 511 bytes at most", "Longest texts", true, showing(func(e *apilog.Entry) {
		if len(e.UserAgent) > 511 {
			e.UserAgent = e.UserAgent[:511]
		}
	})},
	{"a text has no blanks at the end", "Odd texts", true, showing(func(e *apilog.Entry) {
		e.UserAgent = strings.TrimRight(e.UserAgent, " ")
	})},
	{"a text has 16 bits for a character", "Odd texts", false, showing(func(e *apilog.Entry) {
		e.Path = strings.Map(func(r rune) rune { return min(r, '\uffff') }, e.Path)
	})},
	{"an ID has 20 bytes at most", "Foreign IDs", true, showing(func(e *apilog.Entry) {
		e.ID = e.ID[:min(20, len(e.ID))]
	})},
	{"an address has 64 bits", "Addresses", true, showing(func(e *apilog.Entry) {
		if e.RemoteAddr.Is6() {
			prefix, _ := e.RemoteAddr.Prefix(64)
			e.RemoteAddr = prefix.Masked().Addr()
		}
	})},
	{"an IPv4 address is one in IPv6", "Addresses", false, showing(func(e *apilog.Entry) {
		if e.RemoteAddr.Is4() {
			e.RemoteAddr = netip.AddrFrom16(e.RemoteAddr.As16())
		}
	})},
	{"bytes have 32 bits", "Numbers", true, showing(func(e *apilog.Entry) {
		e.ResponseBytes = int64(int32(e.ResponseBytes))
	})},
	{"bytes are a floating-point number", "Numbers", true, showing(func(e *apilog.Entry) {
		if e.RequestBytes < 1<<60 {
			e.RequestBytes = int64(float64(e.RequestBytes))
		}
	})},
	{"a duration has whole milliseconds", "Microseconds", true, showing(func(e *apilog.Entry) {
		e.Duration = e.Duration.Truncate(time.Millisecond)
	})},
	{"a duration has 32 bits", "Microseconds", true, showing(func(e *apilog.Entry) {
		e.Duration = time.Duration(int32(e.Duration.Microseconds())) * time.Microsecond
	})},
	{"a time ends in 2106", "Odd clocks", true, showing(func(e *apilog.Entry) {
		if e.Time.Year() > 2106 {
			e.Time = time.Unix(int64(uint32(e.Time.Unix())), 0).UTC()
		}
	})},
	{"a time is in the zone of the server", "Times are in UTC", true, showing(func(e *apilog.Entry) {
		e.Time = e.Time.In(time.FixedZone("", 3600))
	})},
}
