package auth

import "errors"

// Why a request is refused (inSigner API documentation, "Authentication
// errors"). An error of an [Authenticator] matches one of these with
// [errors.Is].
var (
	// ErrMissingKey means that there is no Authorization field, that its
	// scheme is not Bearer, or that nothing follows the scheme.
	ErrMissingKey = errors.New("auth: no API key in the request")

	// ErrInvalidFormat means that the key does not start with the prefix.
	ErrInvalidFormat = errors.New("auth: the API key does not start with the prefix")

	// ErrInvalidKey means that the key is malformed after the prefix, or that
	// the store does not know it.
	ErrInvalidKey = errors.New("auth: the API key is malformed or unknown")

	// ErrKeyRevoked means that the key has been revoked, for good.
	ErrKeyRevoked = errors.New("auth: the API key has been revoked")

	// ErrKeyDisabled means that the key has been disabled. It can be enabled
	// again.
	ErrKeyDisabled = errors.New("auth: the API key has been disabled")

	// ErrKeyExpired means that the key has passed its expiry.
	ErrKeyExpired = errors.New("auth: the API key has expired")

	// ErrInsufficientScope means that the key is good, but its scopes do not
	// cover what the route requires.
	ErrInsufficientScope = errors.New("auth: the API key lacks a required scope")

	// ErrStoreUnavailable means that the store failed, so it is unknown
	// whether the key is good. Options.Logger gets the cause. A request whose
	// client has gone away during the lookup fails with it too.
	ErrStoreUnavailable = errors.New("auth: the key store is unavailable")
)

// ErrNotFound is what a [Store] returns for a hash, and a keyring.Store for an
// ID, that it does not hold. Any other error of a store means "unknown", and
// the request is answered with 503.
var ErrNotFound = errors.New("auth: no such key")

// errMisuse is what a programmer's mistake becomes on a request: 500.
var errMisuse = errors.New("auth: internal error")
