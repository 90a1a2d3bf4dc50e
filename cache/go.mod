module github.com/insigner/auth/cache

go 1.26.0

require (
	github.com/insigner/auth v0.1.0
	github.com/maypok86/otter/v2 v2.4.0
)

require (
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
