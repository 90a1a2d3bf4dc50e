package redistest_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth/internal/redistest"
)

func TestMain(m *testing.M) { os.Exit(redistest.Main(m)) }

func do(t *testing.T, s *redistest.Server, want string, args ...string) {
	t.Helper()
	if got, err := s.Do(args...); err != nil || got != want {
		t.Errorf("%v = %q, %v, want %q", args, got, err, want)
	}
}

func TestServer(t *testing.T) {
	s := redistest.Start(t)
	do(t, s, "OK", "SET", "k", "v")
	do(t, s, "v", "GET", "k")
	do(t, s, "v\nv\n", "MGET", "k", "k", "none")
	if _, err := s.Do("NONSENSE"); err == nil {
		t.Error("an unknown command is no error")
	}

	s.Freeze()
	thawed := time.AfterFunc(50*time.Millisecond, s.Thaw)
	defer thawed.Stop()
	do(t, s, "v", "GET", "k")

	addr := s.Addr()
	s.Kill()
	if _, err := s.Do("PING"); err == nil {
		t.Error("a killed server answers")
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if s.Addr() != addr {
		t.Errorf("after the restart the address is %s, want %s", s.Addr(), addr)
	}
	do(t, s, "", "GET", "k")
}

func TestCluster(t *testing.T) {
	for _, s := range redistest.StartCluster(t) {
		if _, err := s.Do("SET", "k", "v"); err != nil && !strings.HasPrefix(err.Error(), "MOVED ") {
			t.Error(err)
		}
	}
}

func TestSentinel(t *testing.T) {
	primary, replica, sentinel := redistest.StartSentinel(t)
	at := func(s *redistest.Server) string { return strings.ReplaceAll(s.Addr(), ":", "\n") }
	do(t, sentinel, at(primary), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "primary")
	primary.Kill()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		got, err := sentinel.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "primary")
		if err != nil {
			t.Fatal(err)
		}
		if got == at(replica) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the primary is still %q", got)
		}
	}
	do(t, replica, "OK", "SET", "k", "v")
}
