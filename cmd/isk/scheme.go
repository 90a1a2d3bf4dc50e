package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/user"
	"strings"

	"github.com/insigner/auth"
)

// Variables of the environment.
const (
	envDatabase = "ISK_DATABASE_URL"
	envPrefix   = "ISK_PREFIX"
	envPepper   = "ISK_PEPPER_FILE"
	envCatalog  = "ISK_CATALOG_FILE"
)

// maxPepper is the most that a pepper has (auth.BLAKE2b).
const maxPepper = 64

// scheme returns the Scheme of the API, by the environment.
func (a *app) scheme() (auth.Scheme, error) {
	s := auth.Scheme{Prefix: a.getenv(envPrefix)}
	if err := s.Validate(); err != nil {
		return s, wrongUsage("%s cannot work: it has 1 to 32 characters of A-Z a-z 0-9 _ -, and ends in _", envPrefix)
	}
	if file := a.getenv(envPepper); file != "" {
		pepper, err := os.ReadFile(file)
		if err != nil {
			return s, wrongUsage("%s: %s: %v", envPepper, file, fileError(err))
		}
		pepper = bytes.TrimSuffix(bytes.TrimSuffix(pepper, []byte("\n")), []byte("\r"))
		if len(pepper) == 0 || len(pepper) > maxPepper {
			return s, wrongUsage("%s: %s has %d bytes, but a pepper has 1 to %d", envPepper, file, len(pepper), maxPepper)
		}
		a.secrets.add(string(pepper))
		s.Hashers = []auth.Hasher{auth.BLAKE2b(pepper)}
	}
	var err error
	s.Catalog, err = a.catalog()
	return s, err
}

// catalog returns the scopes that exist, or nil if any may be granted.
func (a *app) catalog() (auth.Catalog, error) {
	file := a.getenv(envCatalog)
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, wrongUsage("%s: %s: %v", envCatalog, file, fileError(err))
	}
	catalog := auth.Catalog{}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if err := json.Unmarshal(text, &catalog); err != nil {
		return nil, wrongUsage(`%s: %s is not a JSON array of objects such as {"scope": "documents.read", "description": "…"}: %v`,
			envCatalog, file, err)
	}
	if err := (auth.Scheme{Catalog: catalog}).Validate(); err != nil {
		return nil, wrongUsage("%s: %s: %s", envCatalog, file, strings.TrimPrefix(err.Error(), "auth: "))
	}
	return catalog, nil
}

// who returns who acts.
func (a *app) who() (string, error) {
	if a.as != "" {
		return a.as, nil
	}
	name := ""
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if name == "" || err != nil || host == "" {
		return "", wrongUsage("the system does not tell the user and the host: say who acts by --as")
	}
	return name + "@" + host, nil
}
