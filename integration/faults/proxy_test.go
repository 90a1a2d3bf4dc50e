package faults_test

import (
	"context"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

type mode int

const (
	passing mode = iota // bytes are passed on
	silent              // bytes are dropped, and connections stay open
	cut                 // connections are closed
)

// A proxy stands between a client and the database. A connection that was silent
// once stays silent.
type proxy struct {
	listener net.Listener
	mu       sync.Mutex
	target   string // of new connections
	mode     mode
	conns    map[net.Conn]bool // whether each is silent
}

// newProxy returns a proxy, and the URL of the database through it.
func newProxy(t testing.TB, dsn string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{listener: l, target: u.Host, conns: make(map[net.Conn]bool)}
	u.Host = l.Addr().String()
	var running sync.WaitGroup
	t.Cleanup(func() { l.Close(); p.set(cut); running.Wait() })
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", p.towards())
			if err != nil || !p.add(client, server) {
				client.Close()
				if err == nil {
					server.Close()
				}
				continue
			}
			running.Go(func() { p.copy(client, server) })
			running.Go(func() { p.copy(server, client) })
		}
	})
	return p, u.String()
}

func (p *proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.mode != cut {
			p.conns[c] = p.mode == silent
		}
	}
	return p.mode != cut
}

// to sets where new connections lead. The others stay.
func (p *proxy) to(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

func (p *proxy) towards() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target
}

func (p *proxy) set(m mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
	for c := range p.conns {
		switch m {
		case silent:
			p.conns[c] = true
		case cut:
			c.Close()
			delete(p.conns, c)
		}
	}
}

// copy passes on what src sends. The end of a silent connection is not passed on.
func (p *proxy) copy(dst, src net.Conn) {
	buf := make([]byte, 1<<16)
	for {
		n, err := src.Read(buf)
		p.mu.Lock()
		swallow := p.conns[src]
		p.mu.Unlock()
		if !swallow && n > 0 {
			dst.Write(buf[:n])
		}
		if err != nil {
			if !swallow || err != io.EOF {
				dst.Close()
			}
			src.Close()
			return
		}
	}
}
