package apilog_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"

	"github.com/insigner/auth/apilog"
)

// proxies are the networks of the host's own proxies.
var proxies = netip.MustParsePrefix("10.0.0.0/8")

// clientAddr returns the address of the client of a server whose proxies append
// to X-Forwarded-For: the rightmost that is not that of a proxy.
func clientAddr(r *http.Request) netip.Addr {
	fields := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	fields = append(fields, hostOf(r.RemoteAddr)) // who connected is the rightmost
	for i := len(fields) - 1; i >= 0; i-- {
		addr, err := netip.ParseAddr(strings.TrimSpace(fields[i]))
		if err != nil {
			return netip.Addr{} // what is left of it cannot be trusted either
		}
		if !proxies.Contains(addr) {
			return addr
		}
	}
	return netip.Addr{}
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}

func ExampleOptions_remoteAddr() {
	recorder := apilog.NewRecorder(apilog.NewMemoryStore(100), &apilog.Options{RemoteAddr: clientAddr})
	defer recorder.Close(context.Background())

	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "10.0.0.7:41000"
	r.Header.Set("X-Forwarded-For", "192.0.2.1, 203.0.113.9, 10.0.0.3") // the client made up the first
	fmt.Println(clientAddr(r))
	// Output: 203.0.113.9
}
