// Command client manages keys with the client in api.go, which oapi-codegen
// generates from the OpenAPI document. Its argument is the address of the API,
// and API_KEY a key that may manage keys.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/oapi-codegen/nullable"
)

func main() {
	if err := run(context.Background(), os.Args[1], os.Getenv("API_KEY")); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

// client returns a client that sends a key.
func client(url, key string) (*ClientWithResponses, error) {
	return NewClientWithResponses(url, WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+key)
		return nil
	}))
}

func run(ctx context.Context, url, adminKey string) error {
	admin, err := client(url, adminKey)
	if err != nil {
		return err
	}

	once := "a random text"
	made, err := admin.CreateKeyWithResponse(ctx, &CreateKeyParams{IdempotencyKey: &once}, CreateKey{
		Name:      "from Go",
		Scopes:    nullable.NewNullableWithValue([]string{"documents.read"}),
		ExpiresAt: nullable.NewNullableWithValue(time.Now().Add(time.Hour)),
	})
	switch {
	case err != nil:
		return err
	case made.JSON201 == nil:
		return fmt.Errorf("create: %s: %s", made.Status(), made.Body)
	case made.JSON201.ExpiresAt.IsNull():
		return errors.New("create: the key never expires")
	}
	if err := accepted(ctx, url, made.JSON201.Key, ""); err != nil {
		return err
	}

	changed, err := admin.UpdateKeyWithApplicationMergePatchPlusJSONBodyWithResponse(ctx, made.JSON201.Id, nil, UpdateKey{
		ExpiresAt: nullable.NewNullNullable[time.Time](),
	})
	switch {
	case err != nil:
		return err
	case changed.JSON200 == nil:
		return fmt.Errorf("update: %s: %s", changed.Status(), changed.Body)
	case !changed.JSON200.ExpiresAt.IsNull():
		return errors.New("update: the key still expires")
	case changed.JSON200.Name != "from Go":
		return errors.New("update: the name is another, which was left out")
	}

	grace := int64(0)
	next, err := admin.RotateKeyWithResponse(ctx, made.JSON201.Id, &RotateKeyParams{IfMatch: &changed.Headers200.ETag},
		RotateKey{GraceSeconds: &grace})
	switch {
	case err != nil:
		return err
	case next.JSON201 == nil:
		return fmt.Errorf("rotate: %s: %s", next.Status(), next.Body)
	}
	if err := accepted(ctx, url, made.JSON201.Key, "KEY_EXPIRED"); err != nil {
		return err
	}
	if err := accepted(ctx, url, next.JSON201.Key, ""); err != nil {
		return err
	}

	again, err := admin.RotateKeyWithResponse(ctx, made.JSON201.Id, nil, RotateKey{})
	switch {
	case err != nil:
		return err
	case again.ApplicationproblemJSON409 == nil:
		return fmt.Errorf("rotate again: %s", again.Status())
	case *again.ApplicationproblemJSON409.Code != "KEY_ROTATED":
		return fmt.Errorf("rotate again: the code is %s", *again.ApplicationproblemJSON409.Code)
	}

	revoked, err := admin.RevokeKeyWithResponse(ctx, next.JSON201.Id, nil, RevokeKey{})
	switch {
	case err != nil:
		return err
	case revoked.JSON200 == nil:
		return fmt.Errorf("revoke: %s: %s", revoked.Status(), revoked.Body)
	}
	if err := accepted(ctx, url, next.JSON201.Key, "KEY_REVOKED"); err != nil {
		return err
	}
	return listed(ctx, admin, made.JSON201.Id, next.JSON201.Id)
}

// accepted uses a key. It expects that the key is refused with a code, or
// accepted if that is empty.
func accepted(ctx context.Context, url, key, code string) error {
	c, err := client(url, key)
	if err != nil {
		return err
	}
	self, err := c.GetSelfWithResponse(ctx)
	if err != nil {
		return err
	}
	got := ""
	if problem := self.ApplicationproblemJSON401; problem != nil {
		got = *problem.Code
	} else if self.JSON200 == nil {
		return fmt.Errorf("self: %s: %s", self.Status(), self.Body)
	}
	if got != code {
		return fmt.Errorf("self: the code is %q, want %q", got, code)
	}
	return nil
}

// listed expects two keys in the list, each on a page of its own.
func listed(ctx context.Context, admin *ClientWithResponses, first, second string) error {
	limit, name := 1, "from Go"
	params := ListKeysParams{Limit: &limit, Q: &name}
	var ids []string
	for {
		page, err := admin.ListKeysWithResponse(ctx, &params)
		switch {
		case err != nil:
			return err
		case page.JSON200 == nil:
			return fmt.Errorf("list: %s: %s", page.Status(), page.Body)
		}
		for _, key := range page.JSON200.Data {
			ids = append(ids, key.Id)
		}
		if !page.JSON200.Meta.HasMore {
			break
		}
		cursor := page.JSON200.Meta.NextCursor.MustGet()
		params.Cursor = &cursor
	}
	if len(ids) != 2 || ids[0] != second || ids[1] != first {
		return fmt.Errorf("list: %v, want %s and %s", ids, second, first)
	}
	return nil
}
