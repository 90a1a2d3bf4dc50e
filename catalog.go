package auth

import (
	"fmt"
	"slices"
)

// A Catalog lists the scopes that exist in an API, in the order in which they
// are shown.
type Catalog []ScopeInfo

// ScopeInfo is a scope with a short description of what it permits.
type ScopeInfo struct {
	Scope       Scope  `json:"scope"`
	Description string `json:"description"`
}

// Validate returns an error that names the first of scopes that is invalid or
// that c does not list. A wildcard counts only if c lists it. If c is nil,
// every valid scope is accepted. If c is empty but not nil, none is.
func (c Catalog) Validate(scopes ...Scope) error {
	for _, s := range scopes {
		if _, err := ParseScope(string(s)); err != nil {
			return err
		}
		if c != nil && !slices.ContainsFunc(c, func(info ScopeInfo) bool { return info.Scope == s }) {
			return fmt.Errorf("auth: the catalog does not list the scope %s", quote(string(s)))
		}
	}
	return nil
}

// PublishedCatalog returns the 23 scopes of the inSigner API, in their order
// (inSigner API documentation, "Scopes"). Each call returns a new slice.
func PublishedCatalog() Catalog {
	return Catalog{
		{"*", "Full access to all resources"},
		{"documents.*", "Full access to documents"},
		{"documents.read", "List and retrieve documents"},
		{"documents.create", "Create new documents"},
		{"documents.write", "Update documents, add fields/signers, upload files"},
		{"documents.send", "Send documents and reminders"},
		{"documents.delete", "Delete documents"},
		{"templates.read", "List and retrieve templates"},
		{"campaigns.*", "Full access to campaigns"},
		{"campaigns.read", "List and retrieve campaigns"},
		{"campaigns.create", "Create campaigns"},
		{"campaigns.update", "Update campaigns"},
		{"campaigns.delete", "Delete campaigns"},
		{"bulk_sends.*", "Full access to bulk sends"},
		{"bulk_sends.read", "List and retrieve bulk sends"},
		{"bulk_sends.create", "Create bulk sends"},
		{"bulk_sends.delete", "Delete bulk sends"},
		{"webhooks.*", "Full access to webhooks"},
		{"webhooks.read", "List and retrieve webhooks"},
		{"webhooks.create", "Create webhooks"},
		{"webhooks.update", "Update webhooks"},
		{"webhooks.delete", "Delete webhooks"},
		{"org.read", "Read organization info and members"},
	}
}
