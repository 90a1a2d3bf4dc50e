package sqlstore_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// A proxy passes bytes on until it is told to be silent; then it keeps connections open and swallows what arrives.
type proxy struct {
	l      net.Listener
	mu     sync.Mutex
	silent bool
	falls  bool // silent when left is 0
	left   int  // what the client may still send
}

func newProxy(t *testing.T, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{l: l}
	var conns sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); l.Close(); conns.Wait() })
	conns.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			context.AfterFunc(ctx, func() { client.Close(); server.Close() })
			conns.Go(func() { p.copy(client, server, false) })
			conns.Go(func() { p.copy(server, client, true) })
		}
	})
	return p
}

func (p *proxy) silence(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = on
}

// fallSilent makes it silent once the client has sent n more times.
func (p *proxy) fallSilent(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.falls, p.left = true, n
}

func (p *proxy) isSilent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.silent
}

func (p *proxy) copy(dst, src net.Conn, fromClient bool) {
	muted := false
	buf := make([]byte, 1<<16)
	for {
		n, err := src.Read(buf)
		p.mu.Lock()
		if fromClient && p.falls && err == nil {
			p.silent = p.silent || p.left == 0
			p.left--
		}
		muted = muted || p.silent // for good: what was swallowed is missing
		p.mu.Unlock()
		if muted && err == nil {
			continue
		}
		if !muted {
			dst.Write(buf[:n])
		}
		if err != nil {
			if !muted || !errors.Is(err, io.EOF) {
				dst.Close()
			}
			return
		}
	}
}
