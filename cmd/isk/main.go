package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

//go:generate sh -c "go run . help --json | go run ./internal/man > isk.1"

func main() { os.Exit(run()) }

// run runs the command of this process and returns its exit code.
func run() int {
	// A write to a closed pipe is an error then, and not the end: what is being
	// revoked is revoked, whether or not somebody reads the list.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process
	return newApp(os.Stdin, os.Stdout, os.Stderr, os.Getenv).run(ctx, os.Args[1:])
}
