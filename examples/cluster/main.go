// Command cluster measures how long processes accept a key after it was
// revoked, and how many requests they accept together. examples/cluster/run
// starts them.
//
//	cluster revoke 'isk revoke ID --yes' URL...    < a file with the key
//	cluster limit URL...                           < a file with the key
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

const patience = time.Minute

func main() {
	log.SetFlags(0)
	log.SetPrefix("cluster: ")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string) error {
	key, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the key on stdin: %w", err)
	}
	key = strings.TrimSpace(key)
	switch {
	case len(args) > 2 && args[0] == "revoke":
		return revoke(ctx, key, args[1], processesAt(args[2:]))
	case len(args) > 1 && args[0] == "limit":
		return limit(ctx, key, processesAt(args[1:]))
	}
	return errors.New("usage: cluster revoke COMMAND URL... or cluster limit URL... < FILE")
}

// A process is one that serves the API.
type process struct {
	url    string
	client *http.Client
}

func processesAt(urls []string) (all []*process) {
	for _, url := range urls {
		all = append(all, &process{url, &http.Client{Transport: new(http.Transport), Timeout: patience}})
	}
	return all
}

// ask sends a request with the key and returns the status.
func (p *process) ask(ctx context.Context, key string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, "GET", p.url+"/api/v1/documents", nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+key)
	answer, err := p.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}

// each calls f for every process at the same time, and returns the errors.
func each(all []*process, f func(i int, p *process) error) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, p := range all {
		wg.Go(func() {
			if err := f(i, p); err != nil {
				errs[i] = fmt.Errorf("%s: %w", p.url, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// revoke sends requests with the key to each process, one after another, runs the
// command, and prints when each process accepted the key for the last time. The
// key is revoked somewhere between the begin and the end of the command.
func revoke(ctx context.Context, key, command string, all []*process) error {
	if err := each(all, func(_ int, p *process) error { return p.accepts(ctx, key) }); err != nil {
		return err
	}
	type result struct {
		last     time.Time // when the last request that was accepted was sent
		accepted int
	}
	results := make([]result, len(all))
	var begun, done time.Time
	finished := make(chan error, 1)
	go func() {
		time.Sleep(500 * time.Millisecond) // every process is busy by then
		begun = time.Now()
		words := strings.Fields(command)
		out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput()
		done = time.Now()
		if err != nil {
			err = fmt.Errorf("%s: %w: %s", command, err, out)
		}
		finished <- err
	}()
	err := each(all, func(i int, p *process) error {
		for {
			sent := time.Now()
			status, err := p.ask(ctx, key)
			switch {
			case err != nil:
				return err
			case status == http.StatusUnauthorized:
				return nil
			case status != http.StatusOK:
				return fmt.Errorf("status %d", status)
			}
			results[i].last, results[i].accepted = sent, results[i].accepted+1
			time.Sleep(time.Millisecond)
		}
	})
	if err := errors.Join(<-finished, err); err != nil {
		return err
	}
	fmt.Printf("%s took %.1f ms. Each process accepted the key for the last time\n\n", command, ms(done.Sub(begun)))
	fmt.Printf("%-24s %14s %14s %14s\n", "process", "after its begin", "after its end", "accepted")
	for i, p := range all {
		r := results[i]
		fmt.Printf("%-24s %12.1f ms %11.1f ms %14d\n", p.url, ms(r.last.Sub(begun)), ms(r.last.Sub(done)), r.accepted)
	}
	return nil
}

// accepts waits until the process accepts the key.
func (p *process) accepts(ctx context.Context, key string) error {
	for {
		status, err := p.ask(ctx, key)
		switch {
		case status == http.StatusOK:
			return nil
		case ctx.Err() != nil:
			return errors.Join(err, fmt.Errorf("status %d", status))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// limit sends many requests with the key to all processes at the same time, and
// prints how many each of them accepted.
func limit(ctx context.Context, key string, all []*process) error {
	const requests = 60 // to each
	accepted, refused := make([]int, len(all)), make([]int, len(all))
	begun := time.Now()
	err := each(all, func(i int, p *process) error {
		for range requests {
			switch status, err := p.ask(ctx, key); {
			case err != nil:
				return err
			case status == http.StatusOK:
				accepted[i]++
			case status == http.StatusTooManyRequests:
				refused[i]++
			default:
				return fmt.Errorf("status %d", status)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	sum := func(n []int) (all int) {
		for _, n := range n {
			all += n
		}
		return all
	}
	fmt.Printf("Of %d requests in %.2f s, %d processes accepted %d and refused %d: %d to %d each.\n", requests*len(all),
		time.Since(begun).Seconds(), len(all), sum(accepted), sum(refused), slices.Min(accepted), slices.Max(accepted))
	return nil
}
