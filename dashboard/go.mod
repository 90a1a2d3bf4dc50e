module github.com/insigner/auth/dashboard

go 1.26.0

require (
	github.com/insigner/auth v0.1.0
	github.com/insigner/auth/apilog v0.1.0
)

require (
	github.com/felixge/httpsnoop v1.1.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
