package fanout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/redis/go-redis/v9"
)

// NewRedis returns a Conn that uses PUBLISH and SUBSCRIBE of Redis 6 and later,
// or of a server that speaks its protocol: a single one, a cluster, or one with
// sentinels. The client stays the caller's, who closes it. NewRedis panics if
// it is nil.
//
// Each subscription has a connection of its own, which is not in the pool of
// the client. The user of the client needs PUBLISH and SUBSCRIBE on both
// channels; docs/fanout.md has the line of the ACL.
func NewRedis(client redis.UniversalClient) Conn {
	if client == nil {
		panic("fanout.NewRedis: the client is nil")
	}
	return redisConn{client}
}

type redisConn struct{ client redis.UniversalClient }

func (c redisConn) Publish(ctx context.Context, channel string, message []byte) error {
	return redisError(c.client.Publish(ctx, channel, message).Err())
}

// Subscribe uses Receive and not Channel of go-redis. Channel connects again
// without a word, does so never while a server is frozen, and discards messages
// after a minute in which nobody took them.
func (c redisConn) Subscribe(ctx context.Context, channel string, ready func(), receive func([]byte)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := c.client.Subscribe(ctx, channel)
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { s.Close(); close(closed) }) // Receive does not obey ctx
	defer func() {
		if stop() {
			s.Close()
		} else {
			<-closed
		}
	}()
	for {
		m, err := s.Receive(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return redisError(err)
		}
		switch m := m.(type) {
		case *redis.Subscription:
			ready()
		case *redis.Message:
			receive([]byte(m.Payload))
		}
	}
}

// redisError makes what a user may not do match fs.ErrPermission.
func redisError(err error) error {
	var answer redis.Error
	if errors.As(err, &answer) {
		for _, code := range []string{"NOPERM", "NOAUTH", "WRONGPASS"} {
			if strings.HasPrefix(answer.Error(), code) {
				return fmt.Errorf("%w: %w", fs.ErrPermission, err)
			}
		}
	}
	return err
}
